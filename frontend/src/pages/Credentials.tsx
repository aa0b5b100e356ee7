/** The user's mail address and password. */
import { api, ask } from "../api/client";
import { askAgain, tellOfAddress, useAddress } from "../address";
import { useForm } from "../form";
import { Field } from "../parts/Field";
import { Failure, Skeleton, wordsFor } from "../parts/states";
import { useToast } from "../parts/toasts";
import { text } from "../text";

export function Address({ user }: { user: number }) {
  const { value, error, reload } = useAddress(user);
  const say = useToast();
  const words = text.address;
  const form = useForm(async ({ email = "", password = "" }, sheet) => {
    const { verified, wished } = await ask(api.POST("/api/auth/email/change/", { body: { email, password } }));
    sheet.reset();
    say(wished ? words.bothAsked : verified ? words.same : words.asked);
    tellOfAddress();
  });
  const again = () => askAgain().then(() => say(words.sentAgain), (reason: Error) => say(wordsFor(reason), true));
  return (
    <section aria-labelledby="address">
      <h2 id="address">{words.heading}</h2>
      {error && <Failure error={error} retry={reload} />}
      {!value && !error && <Skeleton rows={2} />}
      {value && (
        <form className="sheet" onSubmit={form.onSubmit}>
          <p>
            {value.email} <span className={`state ${value.verified ? "placed" : "retrying"}`}>{value.verified ? words.verified : words.unverified}</span>
          </p>
          {value.wished && <p className="hint">{words.wished(value.wished)}</p>}
          {(!value.verified || value.wished) && (
            <button type="button" className="button small quiet" onClick={() => void again()}>
              {words.sendAgain}
            </button>
          )}
          <Field label={words.other} name="email" type="email" autoComplete="email" required error={form.of("email")} />
          <Field label={words.password} name="password" type="password" autoComplete="current-password" required error={form.of("password")} />
          {form.wrong && (
            <p className="field-error" role="alert">
              {form.wrong}
            </p>
          )}
          <button className="button" disabled={form.busy}>
            {words.change}
          </button>
        </form>
      )}
    </section>
  );
}

export function Password() {
  const say = useToast();
  const words = text.password;
  const form = useForm(async ({ old_password = "", new_password = "" }, sheet) => {
    await ask(api.POST("/api/auth/password/change/", { body: { old_password, new_password } }));
    sheet.reset();
    say(words.changed);
  });
  return (
    <section aria-labelledby="password">
      <h2 id="password">{words.title}</h2>
      <form className="sheet" onSubmit={form.onSubmit}>
        <Field label={words.old} name="old_password" type="password" autoComplete="current-password" required error={form.of("old_password")} />
        <Field
          label={words.another}
          name="new_password"
          type="password"
          autoComplete="new-password"
          required
          hint={text.register.passwordHint}
          error={form.of("new_password")}
        />
        {form.wrong && (
          <p className="field-error" role="alert">
            {form.wrong}
          </p>
        )}
        <button className="button" disabled={form.busy}>
          {words.change}
        </button>
        <p className="hint">{words.ends}</p>
      </form>
    </section>
  );
}
