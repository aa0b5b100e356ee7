import { useState } from "react";
import { Link, useLocation, useSearchParams } from "wouter";

import { api, ask } from "../api/client";
import { tellOfAddress } from "../address";
import { useForm } from "../form";
import { Page } from "../parts/Page";
import { text } from "../text";

/** The page behind a mailed link. Confirming takes a click, because mail scanners also follow links. */
export function VerifyEmail() {
  const [params] = useSearchParams();
  const [token] = useState(() => params.get("token") ?? "");
  const [, go] = useLocation();
  const [verified, setVerified] = useState<boolean>();
  const words = text.address;
  const form = useForm(async () => {
    setVerified((await ask(api.POST("/api/auth/email/verify/", { body: { token } }))).verified);
    go("/verify-email", { replace: true }); // The link is used up.
    tellOfAddress();
  });
  const wrong = form.error && (form.of("token") ?? form.wrong);
  return (
    <Page title={words.title} narrow>
      {verified === undefined ? (
        <form className="sheet" onSubmit={form.onSubmit}>
          <p>{token ? words.press : words.noToken}</p>
          {wrong && (
            <p className="field-error" role="alert">
              {wrong} <Link href="/account">{words.another}</Link>
            </p>
          )}
          {token && (
            <button className="button wide" disabled={form.busy}>
              {words.confirm}
            </button>
          )}
        </form>
      ) : (
        <div className="sheet">
          <p role="status">{verified ? words.confirmed : words.otherToo}</p>
          <Link href="/" className="button">
            {text.cart.toShop}
          </Link>
        </div>
      )}
    </Page>
  );
}
