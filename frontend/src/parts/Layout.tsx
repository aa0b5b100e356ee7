import { type ReactNode, useEffect, useState } from "react";
import { Link, useLocation } from "wouter";

import { askAgain, useAddress } from "../address";
import { useCart } from "../cart";
import { useLive } from "../live/provider";
import { useSession } from "../session";
import { text } from "../text";
import { useToast } from "./toasts";
import { wordsFor } from "./states";

export function Layout({ children }: { children: ReactNode }) {
  const online = useOnline();
  const { user } = useSession();
  return (
    <>
      <a className="skip" href="#main">
        {text.skip}
      </a>
      <Header />
      {!online && (
        <p className="banner" role="status">
          {text.errors.offline}
        </p>
      )}
      {user && <Unverified user={user.id} />}
      {children}
      <Footer />
    </>
  );
}

/** The reminder that mails are held until the address is confirmed, with a button to resend the link. */
function Unverified({ user }: { user: number }) {
  const { value } = useAddress(user);
  const say = useToast();
  if (!value || value.verified) return null;
  const again = () => askAgain().then(() => say(text.address.sentAgain), (error: Error) => say(wordsFor(error), true));
  return (
    <div className="banner" role="status">
      {text.address.waits(value.email)}{" "}
      <button type="button" className="link" onClick={() => void again()}>
        {text.address.sendAgain}
      </button>
    </div>
  );
}

function Header() {
  const { user } = useSession();
  const { cart } = useCart();
  const { unread } = useLive();
  const things = cart?.items.reduce((sum, item) => sum + item.quantity, 0) ?? 0;
  return (
    <header className="site-head">
      <div className="site-head-inner">
        <Link href="/" className="brand">
          <Mark />
          {text.shop}
        </Link>
        <nav className={user ? "site-nav" : "site-nav alone"} aria-label={text.nav.label}>
          <Tab href="/" icon="shop" name={text.nav.catalogue} />
          {user && <Tab href="/orders" icon="orders" name={text.nav.orders} />}
          {user && <Tab href="/notifications" icon="bell" name={text.nav.notifications} badge={unread} says={text.nav.unread} />}
          {user && <Tab href="/messages" icon="letter" name={text.nav.messages} />}
          {user?.is_staff && <Tab href="/operations" icon="gauge" name={text.nav.operations} />}
        </nav>
        <div className="site-side">
          <Connection />
          <Who />
          <Link href="/cart" className="cart-link">
            <Icon name="cart" />
            <span className="cart-word">{text.nav.cart}</span>
            <span className="unseen">{text.nav.inCart(things)}</span>
            <span className="count" data-empty={things === 0} aria-hidden="true">
              {things}
            </span>
          </Link>
        </div>
      </div>
    </header>
  );
}

interface TabProps {
  href: string;
  icon: keyof typeof ICONS;
  name: string;
  badge?: number;
  says?: (amount: number) => string;
}

function Tab({ href, icon, name, badge = 0, says }: TabProps) {
  const [here] = useLocation();
  const current = href === "/" ? here === "/" || here.startsWith("/products") : here.startsWith(href);
  return (
    <Link href={href} className="tab" aria-current={current ? "page" : undefined}>
      <Icon name={icon} />
      <span>{name}</span>
      {badge > 0 && (
        <span className="badge">
          <span aria-hidden="true">{badge > 99 ? "99+" : badge}</span>
          <span className="unseen">{says?.(badge)}</span>
        </span>
      )}
    </Link>
  );
}

function Who() {
  const { user } = useSession();
  const [here] = useLocation();
  if (user === undefined) return <span className="who-space" />;
  if (user === null) {
    const next = ["/", "/sign-in", "/register"].includes(here) ? "" : `?next=${encodeURIComponent(here)}`;
    return (
      <Link href={`/sign-in${next}`} className="button small quiet">
        {text.nav.signIn}
      </Link>
    );
  }
  return (
    <>
      <Link href="/account" className="who">
        <span className="unseen">{text.nav.account}</span>
        <span className="avatar" aria-hidden="true">
          {user.username.slice(0, 1).toUpperCase()}
        </span>
        <span className="who-name">{user.username}</span>
      </Link>
      <SignOut className="plain sign-out" />
    </>
  );
}

export function SignOut({ className }: { className: string }) {
  const { signOut } = useSession();
  const say = useToast();
  const [, go] = useLocation();
  const leave = () => signOut().then(() => go("/"), (error: Error) => say(wordsFor(error), true));
  return (
    <button type="button" className={className} onClick={() => void leave()}>
      {text.nav.signOut}
    </button>
  );
}

function Connection() {
  const { state } = useLive();
  if (state === "off") return null;
  return (
    <span className={`connection ${state}`} role="status" data-live={state} title={text.live.how[state]}>
      <span className="pulse" aria-hidden="true" />
      {text.live[state]}
    </span>
  );
}

function Footer() {
  return (
    <footer className="site-foot">
      <p>{text.footer.tells}</p>
      <p>
        <a href="/api/docs/">{text.footer.api}</a>
        <a href="/api/schema/">{text.footer.schema}</a>
        <a href="/health/ready/">{text.footer.health}</a>
      </p>
    </footer>
  );
}

function useOnline(): boolean {
  const [online, setOnline] = useState(navigator.onLine);
  useEffect(() => {
    const look = () => setOnline(navigator.onLine);
    addEventListener("online", look);
    addEventListener("offline", look);
    return () => {
      removeEventListener("online", look);
      removeEventListener("offline", look);
    };
  }, []);
  return online;
}

function Mark() {
  return (
    <svg viewBox="0 0 32 32" width="28" height="28" aria-hidden="true">
      <rect width="32" height="32" rx="8" className="mark-ground" />
      <path d="M8 11h16l-2 12H10z" className="mark-bag" />
      <path d="M12 13v-3a4 4 0 0 1 8 0v3" className="mark-handle" />
      <circle cx="16" cy="17.5" r="2.2" className="mark-ground" />
    </svg>
  );
}

const ICONS = {
  shop: "M4 9.5V20h16V9.5M3 9l2-5h14l2 5a3 3 0 0 1-6 0 3 3 0 0 1-6 0 3 3 0 0 1-6 0z",
  orders: "M6 3h12v18l-3-2-3 2-3-2-3 2zM9.5 8h5M9.5 12h5",
  bell: "M6 17V11a6 6 0 0 1 12 0v6l2 1H4zM10 20.5h4",
  letter: "M3 6h18v12H3zM3.5 6.5L12 13l8.500-6.500",
  gauge: "M4 18a9 9 0 1 1 16 0zM12 15l4-5",
  cart: "M6 8h12l1.500 12h-15zM9 10V7a3 3 0 0 1 6 0v3",
} as const;

function Icon({ name }: { name: keyof typeof ICONS }) {
  return (
    <svg className="icon" viewBox="0 0 24 24" width="20" height="20" aria-hidden="true">
      <path d={ICONS[name]} fill="none" stroke="currentColor" strokeWidth="1.7" strokeLinejoin="round" strokeLinecap="round" />
    </svg>
  );
}
