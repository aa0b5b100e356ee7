/** The carts that this browser knows, by owner. The shop has their contents, and lets only the owner use each. */

/** The id of a user, or null if not signed in. */
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
  /** Return the cart in use: the latest that has not been dropped. */
  of: (owner: Owner): string | null => all(owner).at(-1) ?? null,
  put: (owner: Owner, id: string): void => keep(owner, [...all(owner).filter((each) => each !== id), id]),
  drop: (owner: Owner, id: string): void => keep(owner, all(owner).filter((each) => each !== id)),
};
