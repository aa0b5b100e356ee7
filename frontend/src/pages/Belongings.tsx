/** The user's sign-ins and stored data. */
import { useLocation } from "wouter";

import { api, ask, type SignIn } from "../api/client";
import { useForm } from "../form";
import { moment } from "../format";
import { useLoad } from "../load";
import { Field } from "../parts/Field";
import { Failure, Skeleton, wordsFor } from "../parts/states";
import { useToast } from "../parts/toasts";
import { useSession } from "../session";
import { text } from "../text";

export function SignIns() {
  const words = text.signIns;
  const say = useToast();
  const { value, error, reload } = useLoad("sign-ins", (signal) => ask(api.GET("/api/auth/sign-ins/", { params: { query: { page_size: 100 } }, signal })));
  const form = useForm(async ({ password = "" }, sheet) => {
    await ask(api.POST("/api/auth/sign-out-everywhere/", { body: { password } }));
    sheet.reset();
    say(words.ended);
    reload();
  });
  async function end(id: number) {
    try {
      await ask(api.DELETE("/api/auth/sign-ins/{id}/", { params: { path: { id } } }));
      say(words.endedOne);
    } catch (reason) {
      say(wordsFor(reason as Error), true);
    }
    reload();
  }
  return (
    <section aria-labelledby="sign-ins">
      <h2 id="sign-ins">{words.title}</h2>
      {error && <Failure error={error} retry={reload} />}
      {!value && !error && <Skeleton rows={2} />}
      {value && (
        <form className="sheet" onSubmit={form.onSubmit}>
          <ul className="sign-ins">
            {value.results.map((each) => (
              <li key={each.id}>
                <div>
                  {nameOf(each)}
                  <p className="hint">
                    {words.since(moment(each.created_at))}
                    {each.current && ` ${words.current}`}
                  </p>
                </div>
                {!each.current && (
                  <button type="button" className="button small quiet" aria-label={words.endOf(nameOf(each))} onClick={() => void end(each.id)}>
                    {words.end}
                  </button>
                )}
              </li>
            ))}
          </ul>
          <Field label={words.password} name="password" type="password" autoComplete="current-password" required error={form.of("password")} />
          {form.wrong && (
            <p className="field-error" role="alert">
              {form.wrong}
            </p>
          )}
          <button className="button" disabled={form.busy}>
            {words.everywhere}
          </button>
        </form>
      )}
    </section>
  );
}

/** The short name of a client: the browser's, if it is known. */
function nameOf({ agent, kind }: SignIn): string {
  const browser = /(Firefox|Edg|OPR|Chrome|Safari)\//.exec(agent)?.[1];
  const name = browser ? (text.signIns.browsers[browser] ?? browser) : agent.slice(0, 60) || text.signIns.unknown;
  return kind === "tokens" ? text.signIns.app(name) : name;
}

export function Data() {
  const words = text.data;
  const { ask: askAgain } = useSession();
  const [, go] = useLocation();
  const say = useToast();
  const form = useForm(async ({ password = "" }) => {
    await ask(api.POST("/api/customers/me/deletion/", { body: { password } }));
    say(words.deleted);
    await askAgain();
    go("/");
  });
  return (
    <section aria-labelledby="data">
      <h2 id="data">{words.title}</h2>
      <div className="sheet">
        <p className="hint">{words.exportHint}</p>
        <a className="button quiet" href="/api/customers/me/export/" download="my-data.json">
          {words.export}
        </a>
        <details>
          <summary>{words.deleteAccount}</summary>
          <form onSubmit={form.onSubmit}>
            <p className="hint">{words.deleteHint}</p>
            <Field label={words.password} name="password" type="password" autoComplete="current-password" required error={form.of("password")} />
            {form.wrong && (
              <p className="field-error" role="alert">
                {form.wrong}
              </p>
            )}
            <button className="button danger" disabled={form.busy}>
              {words.delete}
            </button>
          </form>
        </details>
      </div>
    </section>
  );
}
