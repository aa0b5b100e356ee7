import { useState } from "react";
import { Link, useLocation, useSearchParams } from "wouter";

import { api, ask } from "../api/client";
import { useForm } from "../form";
import { Field } from "../parts/Field";
import { Page } from "../parts/Page";
import { text } from "../text";

const words = text.reset;

/** A forgotten password: request a link here, and set a new password on the page that it leads to. */
export function ResetPassword() {
  const [params] = useSearchParams();
  const token = params.get("token");
  return (
    <Page title={words.title} narrow>
      {token ? <Another token={token} /> : <Forgotten />}
    </Page>
  );
}

function Forgotten() {
  const [sent, setSent] = useState(false);
  const form = useForm(async ({ email = "" }) => {
    await ask(api.POST("/api/auth/password/reset/", { body: { email } }));
    setSent(true);
  });
  if (sent) {
    return (
      <p className="sheet" role="status">
        {words.sent}
      </p>
    );
  }
  return (
    <form className="sheet" onSubmit={form.onSubmit}>
      <p>{words.explain}</p>
      <Field label={text.register.email} name="email" type="email" autoComplete="email" required error={form.of("email")} />
      <Wrong words={form.wrong} />
      <button className="button wide" disabled={form.busy}>
        {words.ask}
      </button>
      <p>
        <Link href="/sign-in">{text.nav.signIn}</Link>
      </p>
    </form>
  );
}

function Another({ token }: { token: string }) {
  const [, go] = useLocation();
  const form = useForm(async ({ new_password = "" }) => {
    await ask(api.POST("/api/auth/password/reset/confirm/", { body: { token, new_password } }));
    go("/sign-in", { replace: true, state: { newPassword: true } });
  });
  return (
    <form className="sheet" onSubmit={form.onSubmit}>
      <Field
        label={words.another}
        name="new_password"
        type="password"
        autoComplete="new-password"
        required
        hint={text.register.passwordHint}
        error={form.of("new_password")}
      />
      <Wrong words={form.of("token") ?? form.wrong} />
      <button className="button wide" disabled={form.busy}>
        {words.set}
      </button>
      <p>
        <Link href="/reset-password">{words.again}</Link>
      </p>
    </form>
  );
}

function Wrong({ words: said }: { words: string | undefined }) {
  return said ? (
    <p className="field-error" role="alert">
      {said}
    </p>
  ) : null;
}
