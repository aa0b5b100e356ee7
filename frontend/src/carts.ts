/** Which carts this browser knows of, by whose they are. The shop knows what is in them, and lets each be used by its owner. */

/** The id of a user, or null for whoever is not signed in. */
export type Owner = number | null;

function keyOf(owner: Owner): string {
  return owner === null ? "shopwire.cart" : `shopwire.cart.${owner}`;
}

function all(owner: Owner): string[] {
  return (localStorage.getItem(keyOf(owner)) ?? "").split(" ").filter(Boolean);
}

function keep(owner: Owner, ids: string[]): void {
  if (ids.length > 0) localStorage.setItem(keyOf(owner), ids.join(" "));
  else localStorage.removeItem(keyOf(owner));
}

export const carts = {
  /** Return the cart in use: the one that was put last, of those that are not dropped. */
  of: (owner: Owner): string | null => all(owner).at(-1) ?? null,
  put: (owner: Owner, id: string): void => keep(owner, [...all(owner).filter((each) => each !== id), id]),
  drop: (owner: Owner, id: string): void => keep(owner, all(owner).filter((each) => each !== id)),
};
