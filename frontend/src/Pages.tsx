import { type ReactNode, useEffect } from "react";
import { Redirect, Route, Switch, useLocation } from "wouter";

import { chunk } from "./chunk";
import { Page } from "./parts/Page";
import { Blank, Failure } from "./parts/states";
import { Catalogue } from "./pages/Catalogue";
import { NotFound } from "./pages/NotFound";
import { useSession } from "./session";
import { text } from "./text";

// The catalogue is in the first script; the other pages are loaded while the user looks at it.
const Product = chunk(() => import("./pages/Product").then((page) => page.Product));
const Cart = chunk(() => import("./pages/Cart").then((page) => page.Cart));
const SignIn = chunk(() => import("./pages/SignIn").then((page) => page.SignIn));
const Register = chunk(() => import("./pages/SignIn").then((page) => page.Register));
const VerifyEmail = chunk(() => import("./pages/VerifyEmail").then((page) => page.VerifyEmail));
const ResetPassword = chunk(() => import("./pages/ResetPassword").then((page) => page.ResetPassword));
const Orders = chunk(() => import("./pages/Orders").then((page) => page.Orders));
const Order = chunk(() => import("./pages/Order").then((page) => page.Order));
const NotificationsTab = chunk(() => import("./pages/NotificationsTab").then((page) => page.NotificationsTab));
const Messages = chunk(() => import("./pages/Messages").then((page) => page.Messages));
const Account = chunk(() => import("./pages/Account").then((page) => page.Account));
const Operations = chunk(() => import("./pages/Operations").then((page) => page.Operations));

const Tasks = chunk(() => import("./pages/Tasks").then((page) => page.Tasks));
const Workers = chunk(() => import("./pages/Workers").then((page) => page.Workers));
const Schedules = chunk(() => import("./pages/Schedules").then((page) => page.Schedules));
const Limits = chunk(() => import("./pages/Limits").then((page) => page.Limits));
const Task = chunk(() => import("./pages/Task").then((page) => page.Task));

/** Preload a buyer's pages, so that they work without a network. Operators also get theirs. */
function useSoon() {
  const { user } = useSession();
  const asked = user !== undefined;
  useEffect(() => {
    if (!asked) return undefined;
    const timer = setTimeout(() => {
      for (const page of [Product, Cart, SignIn, Orders, Order, NotificationsTab, Messages, Account]) page.soon();
    }, SOON);
    return () => clearTimeout(timer);
  }, [asked]);
}

/** Milliseconds from knowing the user until the other pages are fetched: the first page takes precedence. */
const SOON = 1000;

/** Every page. The web process knows the same addresses, in core/urls.py. */
export function Pages() {
  useSoon();
  return (
    <Switch>
      <Route path="/">
        <Catalogue />
      </Route>
      <Route path="/products/:id">{({ id }) => <Product key={id} id={Number(id)} />}</Route>
      <Route path="/cart">
        <Cart />
      </Route>
      <Route path="/sign-in">
        <SignIn />
      </Route>
      <Route path="/register">
        <Register />
      </Route>
      <Route path="/verify-email">
        <VerifyEmail />
      </Route>
      <Route path="/reset-password">
        <ResetPassword />
      </Route>
      <Route path="/orders">
        <SignedIn>
          <Orders />
        </SignedIn>
      </Route>
      <Route path="/orders/:id">
        {({ id }) => (
          <SignedIn>
            <Order key={id} id={Number(id)} />
          </SignedIn>
        )}
      </Route>
      <Route path="/notifications">
        <SignedIn>
          <NotificationsTab />
        </SignedIn>
      </Route>
      <Route path="/messages">
        <SignedIn>
          <Messages />
        </SignedIn>
      </Route>
      <Route path="/account">
        <SignedIn>
          <Account />
        </SignedIn>
      </Route>
      <Route path="/operations/tasks/:id">
        {({ id }) => (
          <SignedIn staff>
            <Task key={id} id={id} />
          </SignedIn>
        )}
      </Route>
      <Route path="/operations/schedules">
        <SignedIn staff>
          <Schedules />
        </SignedIn>
      </Route>
      <Route path="/operations/limits">
        <SignedIn staff>
          <Limits />
        </SignedIn>
      </Route>
      <Route path="/operations/workers">
        <SignedIn staff>
          <Workers />
        </SignedIn>
      </Route>
      <Route path="/operations/tasks">
        <SignedIn staff>
          <Tasks />
        </SignedIn>
      </Route>
      <Route path="/operations">
        <SignedIn staff>
          <Operations />
        </SignedIn>
      </Route>
      <Route>
        <NotFound />
      </Route>
    </Switch>
  );
}

/** A page for signed-in users: others are asked to sign in, and then return to it. */
function SignedIn({ children, staff = false }: { children: ReactNode; staff?: boolean }) {
  const { user, error, ask } = useSession();
  const [here] = useLocation();
  if (user === undefined) {
    if (!error) return <Blank />;
    return (
      <Page title={text.shop}>
        <Failure error={error} retry={() => void ask()} />
      </Page>
    );
  }
  if (user === null) return <Redirect to={`/sign-in?next=${encodeURIComponent(here)}`} replace />;
  return staff && !user.is_staff ? <NotFound /> : children;
}
