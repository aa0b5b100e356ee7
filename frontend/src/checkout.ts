/**
 * Checkout: one idempotency key for each attempt.
 *
 * An attempt begins with the first press of the button and ends when the shop has answered, with an order or a refusal.
 * Until then its key is kept, even across reloads: whatever is pressed or lost, the same attempt is repeated,
 * and the shop places it once.
 */
import { api, ask, NoAnswerError, type Order, ProblemError, type ShippingAddress } from "./api/client";

const KEPT = "shopwire.checkout";
/** Milliseconds before each retry after no response. */
export const PATIENCE = [1000, 3000];

interface Attempt {
  cart: string;
  /** The id of the user who started it: no other user continues it. */
  user: number;
  key: string;
  /** The shipping address: the same at every attempt, like the key. */
  address?: ShippingAddress | undefined;
  /** How often it was requested. */
  sent: number;
}

/** Return the attempt of `user` to order `cart` that has had no response yet, if any. */
export function openAttempt(cart: string | null, user: number): Attempt | null {
  const kept = sessionStorage.getItem(KEPT);
  const attempt = kept ? (JSON.parse(kept) as Attempt) : null;
  return attempt && attempt.cart === cart && attempt.user === user ? attempt : null;
}

function keep(attempt: Attempt): Attempt {
  sessionStorage.setItem(KEPT, JSON.stringify(attempt));
  return attempt;
}

const underWay = new Map<string, Promise<Order>>();

/**
 * Order `cart` for `user`, who is signed in, to `address`. While that is in progress, further calls return the same promise.
 *
 * Throws ProblemError if the shop refuses, NoAnswerError if several attempts had no response.
 */
export function placeOrder(cart: string, user: number, address?: ShippingAddress): Promise<Order> {
  const same = underWay.get(cart);
  if (same) return same;
  const attempt = openAttempt(cart, user) ?? { cart, user, key: crypto.randomUUID(), address, sent: 0 };
  const promise = send(attempt).finally(() => underWay.delete(cart));
  underWay.set(cart, promise);
  return promise;
}

async function send(attempt: Attempt): Promise<Order> {
  for (let tries = 0; ; tries += 1) {
    attempt = keep({ ...attempt, sent: attempt.sent + 1 });
    try {
      const order = await ask(
        api.POST("/api/orders/", {
          body: { cart_id: attempt.cart, ...(attempt.address && { shipping_address: attempt.address }) },
          params: { header: { "Idempotency-Key": attempt.key } },
        }),
      );
      sessionStorage.removeItem(KEPT);
      return order;
    } catch (error) {
      const wait = PATIENCE[tries];
      if (settles(error, attempt)) sessionStorage.removeItem(KEPT);
      if (!mayPass(error) || wait === undefined) throw error;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

/** Whether the shop refused, so that another press is a new attempt. */
function settles(error: unknown, attempt: Attempt): boolean {
  if (!(error instanceof ProblemError) || isRunning(error)) return false;
  // Such a refusal orders nothing, but an earlier request may have had no response.
  if ([401, 403].includes(error.status)) return attempt.sent === 1;
  return [400, 404, 409, 422].includes(error.status);
}

/** Whether the same request may succeed in a moment. */
function mayPass(error: unknown): boolean {
  return error instanceof NoAnswerError || (error instanceof ProblemError && (error.status >= 500 || isRunning(error)));
}

function isRunning(error: ProblemError): boolean {
  return error.problem.type.endsWith(":idempotency-key-in-use");
}
