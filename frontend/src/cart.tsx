import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useRef, useState } from "react";

import { api, ask, type Cart, ProblemError, type Product } from "./api/client";
import { carts, type Owner } from "./carts";
import { openAttempt } from "./checkout";
import { useSession } from "./session";
import { hearOthers, tellOthers } from "./tabs";

interface Basket {
  /** Undefined until it is known; null if there is none. */
  cart: Cart | null | undefined;
  error: Error | undefined;
  /** The id of the cart, even if it is gone and its order has had no response. */
  id: string | null;
  reload: () => Promise<void>;
  add: (product: number, quantity: number) => Promise<void>;
  change: (item: number, quantity: number) => Promise<void>;
  remove: (item: number) => Promise<void>;
  /** Start with an empty cart, as after a checkout. */
  forget: () => void;
}

interface Read {
  owner: Owner | undefined;
  id: string | null;
  cart: Cart | null | undefined;
  error?: Error;
}

const UNKNOWN: Read = { owner: undefined, id: null, cart: undefined };
const Context = createContext<Basket | null>(null);

/** The cart of the signed-in user, or an anonymous one: only its id is kept here; the shop has the rest. */
export function CartProvider({ children }: { children: ReactNode }) {
  const { user, error: unasked, ask: askWho } = useSession();
  const owner = user === undefined ? undefined : (user?.id ?? null);
  const [last, setLast] = useState(UNKNOWN);
  // Another user's data is never shown, not even for a moment.
  const { cart, id, error } = last.owner === owner && owner !== undefined ? last : UNKNOWN;
  const turn = useRef(0);
  const taken = useRef(Promise.resolve());

  /** Ask the shop who is signed in: a cart may be unreachable because this user is not, or no longer, its owner. */
  const whoIs = useCallback(async (): Promise<Owner> => {
    const session = await askWho();
    return session?.user?.id ?? null;
  }, [askWho]);

  const read = useCallback(
    async (whose: Owner) => {
      const mine = ++turn.current;
      const show = (found: Omit<Read, "owner">) => mine === turn.current && setLast({ owner: whose, ...found });
      for (;;) {
        const wanted = carts.of(whose);
        if (!wanted) return void show({ id: null, cart: null });
        try {
          return void show({ id: wanted, cart: await ask(get(wanted)) });
        } catch (reason) {
          if (!isGone(reason)) return void show({ id: wanted, cart: undefined, error: reason as Error });
          if (whose !== null && (await whoIs()) !== whose) return; // Whose turn it is now is told by the session.
          if (whose !== null && openAttempt(wanted, whose)) return void show({ id: wanted, cart: null });
          carts.drop(whose, wanted);
        }
      }
    },
    [whoIs],
  );
  const reload = useCallback(async () => {
    if (owner !== undefined) await read(owner);
  }, [owner, read]);

  useEffect(() => {
    if (owner === undefined) return;
    taken.current = takeAlong(owner);
    void taken.current.then(() => read(owner));
  }, [owner, read]);
  useEffect(() => hearOthers("cart", () => void reload()), [reload]);

  const forget = useCallback(() => {
    if (owner === undefined || !id) return;
    carts.drop(owner, id);
    tellOthers("cart");
    setLast({ owner, id: null, cart: null });
    void read(owner);
  }, [owner, id, read]);
  const add = useCallback(
    async (product: number, quantity: number) => {
      let whose = owner === undefined ? await whoIs() : owner;
      await taken.current;
      for (let tries = 0; ; tries += 1) {
        const cart_id = carts.of(whose) ?? (await begin(whose));
        try {
          await ask(api.POST("/api/carts/{cart_id}/items/", { params: { path: { cart_id } }, body: { product_id: product, quantity } }));
          break;
        } catch (reason) {
          // The cart may be gone by now: ordered in another window, deleted for its age, or owned by another user.
          if (tries > 1 || !isGone(reason) || !(await ask(get(cart_id)).then(() => false, isGone))) throw reason;
          const now = await whoIs();
          if (now === whose) carts.drop(whose, cart_id);
          whose = now;
        }
      }
      tellOthers("cart");
      await read(whose);
    },
    [owner, whoIs, read],
  );
  const change = useCallback(
    async (item_id: number, quantity: number) => {
      if (!id) return;
      const path = { cart_id: id, item_id };
      await ask(api.PATCH("/api/carts/{cart_id}/items/{item_id}/", { params: { path }, body: { quantity } })).finally(reload);
      tellOthers("cart");
    },
    [id, reload],
  );
  const remove = useCallback(
    async (item_id: number) => {
      if (!id) return;
      const path = { cart_id: id, item_id };
      await ask(api.DELETE("/api/carts/{cart_id}/items/{item_id}/", { params: { path } })).finally(reload);
      tellOthers("cart");
    },
    [id, reload],
  );

  const failed = error ?? (owner === undefined ? unasked : undefined);
  const value = useMemo(
    () => ({ cart, error: failed, id, reload, add, change, remove, forget }),
    [cart, failed, id, reload, add, change, remove, forget],
  );
  return <Context value={value}>{children}</Context>;
}

/** Return how many of a product can still be put into a cart: those in stock that are not in it. */
export function leftOf({ id, available }: Pick<Product, "id" | "available">, cart: Cart | null | undefined): number {
  return available - (cart?.items.find(({ product }) => product === id)?.quantity ?? 0);
}

function get(cart_id: string) {
  return api.GET("/api/carts/{cart_id}/", { params: { path: { cart_id } } });
}

function isGone(reason: unknown): boolean {
  return reason instanceof ProblemError && reason.status === 404;
}

async function begin(owner: Owner): Promise<string> {
  const { id } = await ask(api.POST("/api/carts/", { body: {} }));
  carts.put(owner, id);
  return id;
}

/** Give the user the anonymous cart that they filled before signing in; it takes precedence over an earlier one of theirs. */
async function takeAlong(owner: Owner): Promise<void> {
  const nobodys = owner === null ? null : carts.of(null);
  if (owner === null || !nobodys) return;
  try {
    const { items } = await ask(api.POST("/api/carts/{cart_id}/claim/", { params: { path: { cart_id: nobodys } }, body: {} }));
    if (items.length > 0) carts.put(owner, nobodys);
  } catch (reason) {
    if (!isGone(reason)) return; // It stays anonymous, and is claimed again with the next page.
  }
  carts.drop(null, nobodys);
}

export function useCart(): Basket {
  const basket = useContext(Context);
  if (!basket) throw new Error("There is no CartProvider above.");
  return basket;
}
