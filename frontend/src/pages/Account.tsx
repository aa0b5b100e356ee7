import { type FormEvent, useState } from "react";

import { api, ask, type Channel, type Kinds, type Phone, type Preferences, ProblemError, type QuietHours } from "../api/client";
import { useLoad } from "../load";
import { Field } from "../parts/Field";
import { SignOut } from "../parts/Layout";
import { Page } from "../parts/Page";
import { PushOptIn } from "../parts/PushOptIn";
import { Failure, Skeleton, wordsFor } from "../parts/states";
import { useToast } from "../parts/toasts";
import { useSession } from "../session";
import { text } from "../text";
import { Data, SignIns } from "./Belongings";
import { Address, Password } from "./Credentials";

const CHANNELS = Object.keys(text.account.channels) as Channel[];
/** Kinds of notifications that only managers receive. */
const FOR_MANAGERS = new Set(["duplicate_order", "stock_low", "schedule_late", "promise_broken", "dead_letters", "trouble", "webhook_disabled"]);

export function Account() {
  const { user } = useSession();
  const phone = useLoad("phone", (signal) => ask(api.GET("/api/customers/me/phone/", { signal })));
  return (
    <Page title={text.account.title} aside={<SignOut className="button quiet" />}>
      <div className="account">
        <div>
          <Profile saved={phone.reload} />
          {phone.value?.phone && <Telephone phone={phone.value} set={phone.set} />}
          {user && <Address user={user.id} />}
          <Password />
          <SignIns />
        </div>
        <div>
          <HowTold />
          {user && <PushOptIn user={user.id} />}
          <Data />
        </div>
      </div>
    </Page>
  );
}

function Profile({ saved }: { saved: () => void }) {
  const { value, error, reload, set } = useLoad("me", (signal) => ask(api.GET("/api/customers/me/", { signal })));
  const [refusal, setRefusal] = useState<Error>();
  const [busy, setBusy] = useState(false);
  const say = useToast();
  const words = text.account;
  async function save(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const fields = Object.fromEntries(new FormData(event.currentTarget)) as Record<string, string>;
    setBusy(true);
    setRefusal(undefined);
    try {
      set(await ask(api.PATCH("/api/customers/me/", { body: { ...fields, birth_date: fields.birth_date || null } })));
      say(words.saved);
      saved();
    } catch (reason) {
      setRefusal(reason as Error);
    } finally {
      setBusy(false);
    }
  }
  const of = (field: string) => (refusal instanceof ProblemError ? refusal.of(field) : "") || undefined;
  const named = refusal instanceof ProblemError && Boolean(refusal.problem.errors?.length);
  return (
    <section aria-labelledby="profile">
      <h2 id="profile">{words.profile}</h2>
      {error && <Failure error={error} retry={reload} />}
      {!value && !error && <Skeleton rows={3} />}
      {value && (
        <form className="sheet" onSubmit={(event) => void save(event)}>
          <div className="pair">
            <Field label={words.firstName} name="first_name" autoComplete="given-name" defaultValue={value.first_name} error={of("first_name")} />
            <Field label={words.lastName} name="last_name" autoComplete="family-name" defaultValue={value.last_name} error={of("last_name")} />
          </div>
          <div className="pair">
            <Field label={words.phone} name="phone" type="tel" autoComplete="tel" defaultValue={value.phone} error={of("phone")} />
            <Field label={words.birthDate} name="birth_date" type="date" autoComplete="bday" defaultValue={value.birth_date ?? ""} error={of("birth_date")} />
          </div>
          {refusal && !named && (
            <p className="field-error" role="alert">
              {wordsFor(refusal)}
            </p>
          )}
          <button className="button" disabled={busy}>
            {words.save}
          </button>
        </form>
      )}
    </section>
  );
}

/** Whether the number can receive SMS, and the form for the verification code. */
function Telephone({ phone: { phone, verified }, set }: { phone: Phone; set: (phone: Phone) => void }) {
  const [refusal, setRefusal] = useState<Error>();
  const [busy, setBusy] = useState(false);
  const say = useToast();
  const words = text.account;
  async function attempt(act: Promise<Phone>, done: string) {
    setBusy(true);
    setRefusal(undefined);
    try {
      set(await act);
      say(done);
    } catch (reason) {
      setRefusal(reason as Error);
    } finally {
      setBusy(false);
    }
  }
  function verify(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const code = String(new FormData(event.currentTarget).get("code")).trim();
    void attempt(ask(api.POST("/api/customers/me/phone/verify/", { body: { code } })), words.verified);
  }
  const wrong = refusal instanceof ProblemError ? refusal.of("code") : "";
  return (
    <section aria-labelledby="telephone">
      <h2 id="telephone">{words.verify}</h2>
      {verified ? (
        <p className="sheet hint">{words.isVerified(phone)}</p>
      ) : (
        <form className="sheet" onSubmit={verify}>
          <p className="hint">{words.verifyHint(phone)}</p>
          <Field label={words.code} name="code" required inputMode="numeric" autoComplete="one-time-code" maxLength={10} error={wrong || undefined} />
          {refusal && !wrong && (
            <p className="field-error" role="alert">
              {wordsFor(refusal)}
            </p>
          )}
          <div className="acts">
            <button className="button" disabled={busy}>
              {words.verifyNow}
            </button>
            <button
              type="button"
              className="link"
              disabled={busy}
              onClick={() => void attempt(ask(api.POST("/api/customers/me/phone/code/", { body: {} })), words.codeSent)}
            >
              {words.anotherCode}
            </button>
          </div>
        </form>
      )}
    </section>
  );
}

type Wishes = Record<string, Partial<Record<Channel, boolean>>>;

function withWishes(before: Preferences, { kinds = {}, ...rest }: { kinds?: Wishes; quiet_hours?: QuietHours | null }): Preferences {
  const merged: Wishes = { ...before.kinds };
  for (const [kind, channels] of Object.entries(kinds)) merged[kind] = { ...merged[kind], ...channels };
  return { ...before, ...rest, kinds: merged };
}

function HowTold() {
  const { user } = useSession();
  const { value, error, reload, set } = useLoad("preferences", (signal) => ask(api.GET("/api/notifications/preferences/", { signal })));
  const say = useToast();
  const words = text.account;
  const kinds = Object.entries((value?.kinds ?? {}) as Kinds).filter(([kind]) => user?.is_staff || !FOR_MANAGERS.has(kind));

  /** Show the new choice at once; if the shop refuses it, restore the old one. */
  async function put(body: { kinds?: Wishes; quiet_hours?: QuietHours | null }) {
    if (value) set(withWishes(value, body));
    try {
      set(await ask(api.PUT("/api/notifications/preferences/", { body })));
    } catch (reason) {
      say(wordsFor(reason as Error), true);
      reload();
    }
  }
  async function test() {
    try {
      const { channels } = await ask(api.POST("/api/notifications/test/", { body: {} }));
      say(words.testSent(channels.map((channel) => words.channels[channel])));
    } catch (reason) {
      say(wordsFor(reason as Error), true);
    }
  }
  return (
    <section aria-labelledby="told">
      <h2 id="told">{words.told}</h2>
      {error && <Failure error={error} retry={reload} />}
      {!value && !error && <Skeleton rows={4} />}
      {value && (
        <div className="sheet">
          <table className="preferences">
            <caption className="hint">{words.toldHint}</caption>
            <thead>
              <tr>
                <th scope="col">{words.kind}</th>
                {CHANNELS.map((channel) => (
                  <th key={channel} scope="col">
                    {words.channels[channel]}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {kinds.map(([kind, channels]) => (
                <tr key={kind}>
                  <th scope="row">{text.notifications.kinds[kind] ?? kind}</th>
                  {CHANNELS.map((channel) => (
                    <td key={channel}>
                      <input
                        type="checkbox"
                        aria-label={words.by(text.notifications.kinds[kind] ?? kind, words.channels[channel])}
                        checked={channels?.[channel] ?? false}
                        onChange={(event) => void put({ kinds: { [kind]: { [channel]: event.target.checked } } })}
                      />
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
          <p className="hint">{words.smsHint}</p>
          {user?.is_staff && (
            <button type="button" className="button small quiet" onClick={() => void test()}>
              {words.testAlert}
            </button>
          )}
          <Quiet hours={value.quiet_hours ?? null} save={(quiet_hours) => void put({ quiet_hours })} />
        </div>
      )}
    </section>
  );
}

function Quiet({ hours, save }: { hours: QuietHours | null; save: (hours: QuietHours | null) => void }) {
  const words = text.account;
  const time_zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const usual: QuietHours = { start: "22:00", end: "07:00", time_zone };
  const change = (part: Partial<QuietHours>) => {
    const next = { ...(hours ?? usual), ...part };
    if (next.start && next.end && next.start !== next.end) save(next);
  };
  return (
    <fieldset className="quiet-hours">
      <legend>{words.quiet}</legend>
      <label className="filter check">
        <input type="checkbox" checked={hours !== null} onChange={(event) => save(event.target.checked ? usual : null)} />
        <span>{words.quietOn}</span>
      </label>
      {hours && (
        <div className="pair">
          <Field label={words.start} type="time" value={hours.start.slice(0, 5)} onChange={(event) => change({ start: event.target.value })} />
          <Field label={words.end} type="time" value={hours.end.slice(0, 5)} onChange={(event) => change({ end: event.target.value })} />
        </div>
      )}
      <p className="hint">
        {words.quietHint} {hours?.time_zone}
      </p>
    </fieldset>
  );
}
