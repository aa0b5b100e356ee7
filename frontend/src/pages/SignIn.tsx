import { Link, useLocation, useSearchParams } from "wouter";
import { useHistoryState } from "wouter/use-browser-location";

import { api, ask, ProblemError } from "../api/client";
import { useForm } from "../form";
import { Field } from "../parts/Field";
import { Page } from "../parts/Page";
import { wordsFor } from "../parts/states";
import { useSession } from "../session";
import { text } from "../text";

/** Return the page to go to afterwards: always one of ours, whatever the query says. */
export function nextPage(next: string | null): string {
  return next?.startsWith("/") && !/^\/[/\\]/.test(next) ? next : "/";
}

export function SignIn() {
  const { signIn } = useSession();
  const [params] = useSearchParams();
  const [, go] = useLocation();
  const next = nextPage(params.get("next"));
  const form = useForm(async ({ username = "", password = "" }) => {
    await signIn(username, password);
    go(next);
  });
  const come = useHistoryState<{ again?: boolean; newPassword?: boolean } | null>();
  const wrong = form.error instanceof ProblemError && form.error.status === 401;
  return (
    <Page title={text.signIn.title} narrow>
      {(come?.again || come?.newPassword) && (
        <p className="note" role="status">
          {come.again ? text.signIn.again : text.signIn.newPassword}
        </p>
      )}
      <form className="sheet" onSubmit={form.onSubmit}>
        <Field label={text.signIn.username} name="username" autoComplete="username" required maxLength={150} />
        <Field label={text.signIn.password} name="password" type="password" autoComplete="current-password" required />
        {form.error && (
          <p className="field-error" role="alert">
            {wrong ? text.signIn.wrong : wordsFor(form.error)}
          </p>
        )}
        <button className="button wide" disabled={form.busy}>
          {text.signIn.submit}
        </button>
        <p>
          <Link href={`/register?next=${encodeURIComponent(next)}`}>{text.signIn.register}</Link>
        </p>
        <p>
          <Link href="/reset-password">{text.signIn.forgotten}</Link>
        </p>
      </form>
    </Page>
  );
}

export function Register() {
  const { signIn } = useSession();
  const [params] = useSearchParams();
  const [, go] = useLocation();
  const next = nextPage(params.get("next"));
  const form = useForm(async ({ username = "", email = "", password = "" }) => {
    await ask(api.POST("/api/users/", { body: { username, email, password } }));
    await signIn(username, password);
    go(next);
  });
  return (
    <Page title={text.register.title} narrow>
      <form className="sheet" onSubmit={form.onSubmit}>
        <Field label={text.register.username} name="username" autoComplete="username" required maxLength={150} error={form.of("username")} />
        <Field label={text.register.email} name="email" type="email" autoComplete="email" required error={form.of("email")} />
        <Field
          label={text.register.password}
          name="password"
          type="password"
          autoComplete="new-password"
          required
          hint={text.register.passwordHint}
          error={form.of("password")}
        />
        {form.wrong && (
          <p className="field-error" role="alert">
            {form.wrong}
          </p>
        )}
        <button className="button wide" disabled={form.busy}>
          {text.register.submit}
        </button>
        <p>
          <Link href={`/sign-in?next=${encodeURIComponent(next)}`}>{text.register.signIn}</Link>
        </p>
      </form>
    </Page>
  );
}
