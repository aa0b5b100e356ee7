import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useState } from "react";

import { api, ask, type Cart, ProblemError } from "./api/client";

const KEPT = "shopwire.cart";

interface Basket {
  /** Undefined until it is known; null where there is none. */
  cart: Cart | null | undefined;
  error: Error | undefined;
  /** The id of the cart, also of one that the shop no longer has. */
  id: string | null;
  reload: () => Promise<void>;
  add: (product: number, quantity: number) => Promise<void>;
  change: (item: number, quantity: number) => Promise<void>;
  remove: (item: number) => Promise<void>;
  /** Begin anew, as after a checkout. */
  forget: () => void;
}

const Context = createContext<Basket | null>(null);

/** The cart of this browser: its id is kept here, all else is the shop's to say. */
export function CartProvider({ children }: { children: ReactNode }) {
  const [id, setId] = useState(() => localStorage.getItem(KEPT));
  const [cart, setCart] = useState<Cart | null | undefined>(id ? undefined : null);
  const [error, setError] = useState<Error>();

  const read = useCallback(async (wanted: string) => {
    try {
      setCart(await ask(api.GET("/api/carts/{cart_id}/", { params: { path: { cart_id: wanted } } })));
      setError(undefined);
    } catch (reason) {
      if (reason instanceof ProblemError && reason.status === 404) setCart(null);
      else setError(reason as Error);
    }
  }, []);
  const reload = useCallback(async () => {
    if (id) await read(id);
  }, [id, read]);
  useEffect(() => void reload(), [reload]);

  const forget = useCallback(() => {
    localStorage.removeItem(KEPT);
    setId(null);
    setCart(null);
  }, []);
  const add = useCallback(
    async (product: number, quantity: number) => {
      const put = (cart_id: string) =>
        ask(api.POST("/api/carts/{cart_id}/items/", { params: { path: { cart_id } }, body: { product_id: product, quantity } }));
      const begin = async () => {
        const made = await ask(api.POST("/api/carts/", { body: {} }));
        localStorage.setItem(KEPT, made.id);
        setId(made.id);
        return made.id;
      };
      let target = id && cart !== null ? id : await begin();
      try {
        await put(target);
      } catch (reason) {
        // The cart may have gone since: ordered in another window, or dropped for its age.
        const gone = reason instanceof ProblemError && reason.status === 404 && target === id;
        if (!gone) throw reason;
        target = await begin();
        await put(target);
      }
      await read(target);
    },
    [id, cart, read],
  );
  const change = useCallback(
    async (item_id: number, quantity: number) => {
      if (!id) return;
      const path = { cart_id: id, item_id };
      await ask(api.PATCH("/api/carts/{cart_id}/items/{item_id}/", { params: { path }, body: { quantity } }));
      await read(id);
    },
    [id, read],
  );
  const remove = useCallback(
    async (item_id: number) => {
      if (!id) return;
      await ask(api.DELETE("/api/carts/{cart_id}/items/{item_id}/", { params: { path: { cart_id: id, item_id } } }));
      await read(id);
    },
    [id, read],
  );

  const value = useMemo(
    () => ({ cart, error, id, reload, add, change, remove, forget }),
    [cart, error, id, reload, add, change, remove, forget],
  );
  return <Context value={value}>{children}</Context>;
}

export function useCart(): Basket {
  const basket = useContext(Context);
  if (!basket) throw new Error("There is no CartProvider above.");
  return basket;
}
