/** What the pages of this browser tell each other: who signed in or out, what became of the cart, what was read. */
type Word = "session" | "cart" | "read" | "address";

const channel = "BroadcastChannel" in window ? new BroadcastChannel("shopwire") : null;

/** Say to the other tabs and windows that something changed; each asks the shop for itself. */
export function tellOthers(word: Word): void {
  channel?.postMessage(word);
}

/** Call `act` whenever another tab or window says `word`; returns what ends that. */
export function hearOthers(word: Word, act: () => void): () => void {
  const hear = (event: MessageEvent<unknown>) => event.data === word && act();
  channel?.addEventListener("message", hear);
  return () => channel?.removeEventListener("message", hear);
}
