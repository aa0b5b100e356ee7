import { useCallback, useEffect, useState } from "react";
import { Link, useLocation } from "wouter";

import { type Cart as CartOf, NoAnswerError, ProblemError } from "../api/client";
import { useCart } from "../cart";
import { openAttempt, placeOrder } from "../checkout";
import { money } from "../format";
import { Artwork } from "../parts/Artwork";
import { Page } from "../parts/Page";
import { Quantity } from "../parts/Quantity";
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

  const order = useCallback(
    async (cartId: string) => {
      setPlacing(true);
      setRefusal(undefined);
      try {
        const placed = await placeOrder(cartId);
        forget();
        go(`/orders/${placed.id}`, { state: { justPlaced: true } });
      } catch (reason) {
        setRefusal(reason as Error);
        setPlacing(false);
        if (reason instanceof ProblemError) void reload();
      }
    },
    [forget, go, reload],
  );
  // The cart is gone and the answer was lost: the order may be there. Ask for it under the same key.
  const resumes = Boolean(user && id && cart === null && openAttempt(id));
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
            {lines.map((line) => (
              <Line key={line.id} line={line} currency={cart.currency} shortage={shortageOf(refusal, line.product)} disabled={placing} />
            ))}
          </ul>
          <section className="summary" aria-label={text.cart.summary}>
            <p className="summary-total">
              <span>{text.cart.total}</span>
              <strong>{money(cart.total_price, cart.currency)}</strong>
            </p>
            {refusal && <Refusal error={refusal} />}
            {user ? (
              <button type="button" className="button wide" disabled={placing} onClick={() => void order(cart.id)}>
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

function Refusal({ error }: { error: Error }) {
  return (
    <div className="note bad" role="alert">
      <p>{error instanceof NoAnswerError ? text.cart.lost : wordsFor(error)}</p>
    </div>
  );
}

/** Return what a refused checkout says about a product: what was asked and what there is. */
function shortageOf(refusal: Error | undefined, product: number): string | undefined {
  if (!(refusal instanceof ProblemError)) return undefined;
  const found = refusal.problem.errors?.find((each) => each.product === product);
  return found && text.cart.short(found.requested ?? 0, found.available ?? 0);
}

interface LineProps {
  line: CartOf["items"][number];
  currency: string;
  shortage: string | undefined;
  disabled: boolean;
}

function Line({ line, currency, shortage, disabled }: LineProps) {
  const { change, remove } = useCart();
  const say = useToast();
  const [busy, setBusy] = useState(false);
  async function attempt(act: Promise<void>) {
    setBusy(true);
    try {
      await act;
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
        {shortage && <p className="field-error">{shortage}</p>}
      </div>
      <Quantity
        label={text.cart.quantityOf(line.title)}
        value={line.quantity}
        disabled={busy || disabled}
        change={(quantity) => void attempt(change(line.id, quantity))}
      />
      <p className="cart-line-total">{money(line.total_price, currency)}</p>
      <button
        type="button"
        className="link"
        disabled={busy || disabled}
        aria-label={text.cart.removeNamed(line.title)}
        onClick={() => void attempt(remove(line.id))}
      >
        {text.cart.remove}
      </button>
    </li>
  );
}
