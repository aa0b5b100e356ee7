/** Where one is written to: read once for all that shows it, and again whenever something became of it. */
import { useEffect } from "react";

import { api, ask } from "./api/client";
import { useLoad } from "./load";
import { hearOthers, tellOthers } from "./tabs";

const CHANGED = "shopwire:address";

/** Say that one's address may be another, or verified: here and in the other tabs. */
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

/** Have the mails sent again whose links were not followed. */
export async function askAgain(): Promise<void> {
  await ask(api.POST("/api/auth/email/resend/", { body: {} }));
}
