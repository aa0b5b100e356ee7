/** The user's mail address: read once for all components, and again whenever it changes. */
import { useEffect } from "react";

import { api, ask } from "./api/client";
import { useLoad } from "./load";
import { hearOthers, tellOthers } from "./tabs";

const CHANGED = "shopwire:address";

/** Announce, here and in other tabs, that the user's address may have changed or been verified. */
export function tellOfAddress(): void {
  window.dispatchEvent(new Event(CHANGED));
  tellOthers("address");
}

export function useAddress(user: number) {
  const address = useLoad(`address ${user}`, (signal) => ask(api.GET("/api/auth/email/", { signal })));
  const { reload } = address;
  useEffect(() => {
    const quiet = hearOthers("address", reload);
    addEventListener(CHANGED, reload);
    return () => {
      quiet();
      removeEventListener(CHANGED, reload);
    };
  }, [reload]);
  return address;
}

/** Resend the mails whose links have not been followed. */
export async function askAgain(): Promise<void> {
  await ask(api.POST("/api/auth/email/resend/", { body: {} }));
}
