import { type RefObject, useCallback, useEffect, useRef, useState } from "react";
import { Link, useLocation } from "wouter";

import { api, ask, type Cart as CartOf, NoAnswerError, ProblemError, type Session } from "../api/client";
import { useCart } from "../cart";
import { openAttempt, placeOrder } from "../checkout";
import { money } from "../format";
import { useLoad } from "../load";
import { Artwork } from "../parts/Artwork";
import { Page } from "../parts/Page";
import { Quantity } from "../parts/Quantity";
import { addressOf, ShippingFields } from "../parts/ShippingAddress";
import { Empty, Failure, Skeleton, wordsFor } from "../parts/states";
import { useToast } from "../parts/toasts";
import { useSession } from "../session";
import { text } from "../text";

export function Cart() {
  const { cart, error, id, reload, forget } = useCart();
  const { user } = useSession();
  const [, go] = useLocation();
  const [placing, setPlacing] = useState(false);
  const [refusal, setRefusal] = useState<Error>();
  const shipping = useRef<HTMLFormElement>(null);

  const buyer = user?.id;
  const order = useCallback(
    async (cartId: string) => {
      if (buyer === undefined) return;
      setPlacing(true);
      setRefusal(undefined);
      try {
        const placed = await placeOrder(cartId, buyer, addressOf(shipping.current));
        forget();
        go(`/orders/${placed.id}`, { state: { justPlaced: true } });
      } catch (reason) {
        if (reason instanceof ProblemError && reason.status === 401) return go("/sign-in?next=/cart", { state: { again: true } });
        setRefusal(reason as Error);
        setPlacing(false);
        if (reason instanceof ProblemError) void reload();
      }
    },
    [buyer, forget, go, reload],
  );
  // The cart is gone, and the response to the order was lost: the order may exist.
  // Repeating the request under the same key finds it. It cannot place another, because there is no cart.
  const resumes = Boolean(user && id && cart === null && openAttempt(id, user.id));
  useEffect(() => {
    if (resumes && id) void order(id);
  }, [resumes, id, order]);

  const lines = cart?.items ?? [];
  return (
    <Page title={text.cart.title}>
      {error && <Failure error={error} retry={() => void reload()} />}
      {cart === undefined && !error && <Skeleton rows={3} />}
      {resumes && placing && <p role="status">{text.cart.resumed}</p>}
      {cart !== undefined && lines.length === 0 && !(resumes && placing) && (
        <Empty
          title={text.cart.empty}
          action={
            <Link href="/" className="button">
              {text.cart.toShop}
            </Link>
          }
        >
          {text.cart.emptyHint}
        </Empty>
      )}
      {cart && lines.length > 0 && (
        <div className="cart">
          <ul className="cart-lines">
            {lines.map((line, index) => (
              <Line key={line.id} line={line} currency={cart.currency} shortage={shortageOf(refusal, line.product)} placing={placing} removed={() => goOnAt(index)} />
            ))}
          </ul>
          <section className="summary" aria-label={text.cart.summary}>
            <p className="summary-total">
              <span>{text.cart.total}</span>
              <strong>{money(cart.total_price, cart.currency)}</strong>
            </p>
            {refusal && <Refusal error={refusal} />}
            {user && <Shipping form={shipping} buyer={user} refusal={refusal} />}
            {user ? (
              <button type="button" className="button wide" aria-disabled={placing || undefined} onClick={() => !placing && void order(cart.id)}>
                {placing ? text.cart.placing : text.cart.placeOrder}
              </button>
            ) : (
              <Link href="/sign-in?next=/cart" className="button wide">
                {text.cart.signIn}
              </Link>
            )}
            <p className="hint">{text.cart.once}</p>
          </section>
        </div>
      )}
    </Page>
  );
}

interface ShippingProps {
  form: RefObject<HTMLFormElement | null>;
  buyer: NonNullable<Session["user"]>;
  refusal: Error | undefined;
}

/** The shipping address: initially that of the last order, or none. */
function Shipping({ form, buyer, refusal }: ShippingProps) {
  const last = useLoad(`last address of ${buyer.id}`, async (signal) => {
    if (buyer.is_staff) return undefined; // Their list has everybody's orders.
    const { results } = await ask(api.GET("/api/orders/", { params: { query: { page_size: 1 } }, signal }));
    return results[0]?.shipping_address;
  });
  const of = (field: string) => (refusal instanceof ProblemError && refusal.of(`shipping_address/${field}`)) || undefined;
  const known = last.value;
  if (last.loading && !known) return null;
  return (
    <details className="shipping" open={Boolean(known) || undefined}>
      <summary>{known ? text.shipping.title : text.shipping.add}</summary>
      <form ref={form} onSubmit={(event) => event.preventDefault()}>
        <ShippingFields known={known} wrong={of} />
      </form>
    </details>
  );
}

function Refusal({ error }: { error: Error }) {
  return (
    <div className="note bad" role="alert">
      <p>{error instanceof NoAnswerError ? text.cart.lost : wordsFor(error)}</p>
    </div>
  );
}

/** Return what a refused checkout says about a product: the requested and the available quantity. */
function shortageOf(refusal: Error | undefined, product: number): string | undefined {
  if (!(refusal instanceof ProblemError)) return undefined;
  const found = refusal.problem.errors?.find((each) => each.product === product);
  return found && text.cart.short(found.requested ?? 0, found.available ?? 0);
}

interface LineProps {
  line: CartOf["items"][number];
  currency: string;
  shortage: string | undefined;
  placing: boolean;
  /** Called when the line is gone. */
  removed: () => void;
}

/** Move the focus after a line was removed: to the next line, the last line, or the title. */
function goOnAt(index: number) {
  requestAnimationFrame(() => {
    const buttons = [...document.querySelectorAll<HTMLElement>(".cart-line > .link")];
    (buttons[index] ?? buttons.at(-1) ?? document.querySelector<HTMLElement>("h1"))?.focus();
  });
}

function Line({ line, currency, shortage, placing, removed }: LineProps) {
  const { change, remove } = useCart();
  const say = useToast();
  const [busy, setBusy] = useState(false);
  const still = busy || placing;
  const short = shortage ?? (line.quantity > line.available ? text.cart.short(line.quantity, line.available) : undefined);
  async function attempt(act: () => Promise<void>, done?: () => void) {
    if (still) return;
    setBusy(true);
    try {
      await act();
      done?.();
    } catch (error) {
      say(wordsFor(error as Error), true);
    } finally {
      setBusy(false);
    }
  }
  return (
    <li className="cart-line">
      <Artwork sku={line.sku} />
      <div className="cart-line-what">
        <Link href={`/products/${line.product}`}>{line.title}</Link>
        <p className="hint">
          {money(line.unit_price, currency)} {text.cart.each}
        </p>
        {short && <p className="field-error">{short}</p>}
      </div>
      <Quantity
        label={text.cart.quantityOf(line.title)}
        value={line.quantity}
        available={line.available}
        busy={still}
        change={(quantity) => void attempt(() => change(line.id, quantity))}
      />
      <p className="cart-line-total">{money(line.total_price, currency)}</p>
      <button
        type="button"
        className="link"
        aria-disabled={still || undefined}
        aria-label={text.cart.removeNamed(line.title)}
        onClick={() =>
          void attempt(
            () => remove(line.id),
            () => {
              say(text.cart.removed(line.title));
              removed();
            },
          )
        }
      >
        {text.cart.remove}
      </button>
    </li>
  );
}
