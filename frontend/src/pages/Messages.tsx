import { type FormEvent, useCallback, useEffect, useMemo, useState } from "react";
import { useSearchParams } from "wouter";

import { api, ask, type Block, type Message, ProblemError } from "../api/client";
import { shortMoment } from "../format";
import { useLive } from "../live/provider";
import { useLoad } from "../load";
import { Confirm } from "../parts/Confirm";
import { Field } from "../parts/Field";
import { Page } from "../parts/Page";
import { Empty, Failure, Skeleton, wordsFor } from "../parts/states";
import { useToast } from "../parts/toasts";
import { tellOthers } from "../tabs";
import { text } from "../text";

/** Messages of each box that are shown at first, and each time the user asks for earlier ones. */
const MOST = 100;
/** Maximum length of a message in characters, as in the shop. */
const LONGEST = 2000;
/** Milliseconds between two checks whether a message was read. */
const PACE = 10_000;

interface Talk {
  person: string;
  messages: Message[];
  unread: number;
}

/** Return the messages of both boxes by correspondent, the most recent conversation first. */
export function talksOf(inbox: Message[], sent: Message[]): Talk[] {
  const talks = new Map<string, Talk>();
  const put = (person: string, message: Message, unread: boolean) => {
    const talk = talks.get(person) ?? { person, messages: [], unread: 0 };
    talk.messages.push(message);
    talk.unread += unread ? 1 : 0;
    talks.set(person, talk);
  };
  for (const message of inbox) put(message.sender, message, message.read_at === null);
  for (const message of sent) put(message.receiver, message, false);
  const all = [...talks.values()];
  for (const talk of all) talk.messages.sort((one, other) => one.id - other.id);
  const last = (talk: Talk) => talk.messages.at(-1)?.id ?? 0;
  return all.sort((one, other) => last(other) - last(one));
}

interface Box {
  messages: Message[];
  /** Whether there are earlier ones. */
  more: boolean;
}

/** Return the first `pages` of a box, newest first. */
async function box(which: "inbox" | "sent", pages: number, signal: AbortSignal): Promise<Box> {
  const messages = new Map<number, Message>();
  let more = true;
  for (let page = 1; more && page <= pages; page += 1) {
    const answer = await ask(api.GET("/api/messages/", { params: { query: { box: which, page, page_size: MOST } }, signal }));
    for (const message of answer.results) messages.set(message.id, message);
    more = answer.next !== null;
  }
  return { messages: [...messages.values()], more };
}

/** Mark the notification about a message as read once the message is. */
async function readNotificationsOf(messages: Set<number>) {
  const { results } = await ask(api.GET("/api/notifications/", { params: { query: { page_size: MOST } } }));
  const about = results.filter(({ kind, data }) => kind === "message" && messages.has((data as { message: number }).message));
  const read = ({ id }: { id: number }) => api.POST("/api/notifications/{id}/read/", { params: { path: { id: String(id) } }, body: {} });
  await Promise.all(about.map((each) => ask(read(each))));
  if (about.length > 0) tellOthers("read");
}

export function Messages() {
  const [params, setParams] = useSearchParams();
  const person = params.get("with");
  const { listen } = useLive();
  const [pages, setPages] = useState(1);
  const boxes = useLoad(`boxes ${pages}`, (signal) => Promise.all([box("inbox", pages, signal), box("sent", pages, signal)]));
  const blocks = useLoad("blocks", (signal) =>
    ask(api.GET("/api/messages/blocks/", { params: { query: { page_size: MOST } }, signal })).then(({ results }) => results),
  );
  const { value, error, reload } = boxes;
  useEffect(() => listen(reload, reload), [listen, reload]);
  useEffect(() => {
    const timer = setInterval(() => document.visibilityState === "visible" && reload(), PACE);
    return () => clearInterval(timer);
  }, [reload]);
  const talks = useMemo(() => (value ? talksOf(value[0].messages, value[1].messages) : []), [value]);
  const more = value?.some((each) => each.more) ?? false;
  const block = blocks.value?.find(({ username }) => username === person);
  const talk = talks.find((each) => each.person === person);

  // A message that is shown counts as read, and its sender sees that.
  const { recount } = useLive();
  const unread = talk?.messages.filter((message) => message.sender === person && message.read_at === null).map(({ id }) => id).join(" ");
  const readAll = useCallback(
    async (ids: string[]) => {
      await Promise.all(ids.map((id) => ask(api.POST("/api/messages/{id}/read/", { params: { path: { id } }, body: {} }))));
      await readNotificationsOf(new Set(ids.map(Number)));
      recount();
      reload();
    },
    [recount, reload],
  );
  useEffect(() => {
    // A failure is retried at the next refresh.
    if (unread) readAll(unread.split(" ")).catch(() => undefined);
  }, [unread, readAll]);

  const words = text.messages;
  return (
    <Page title={words.title}>
      {error && <Failure error={error} retry={reload} />}
      {!value && !error && <Skeleton rows={4} />}
      {value && (
        <div className="talks">
          <nav className="people" aria-label={words.people}>
            <button type="button" className="button small wide" onClick={() => setParams({})}>
              {words.new}
            </button>
            <ul>
              {talks.map((each) => (
                <li key={each.person}>
                  <button
                    type="button"
                    className="person"
                    aria-current={each.person === person}
                    onClick={() => setParams({ with: each.person })}
                  >
                    <span className="avatar" aria-hidden="true">
                      {each.person.slice(0, 1).toUpperCase()}
                    </span>
                    <span className="person-words">
                      <strong>{each.person}</strong>
                      <span className="hint">{each.messages.at(-1)?.content}</span>
                    </span>
                    {each.unread > 0 && (
                      <span className="badge">
                        <span aria-hidden="true">{each.unread}</span>
                        <span className="unseen">{words.unread(each.unread)}</span>
                      </span>
                    )}
                  </button>
                </li>
              ))}
            </ul>
          </nav>
          <section className="talk" aria-label={person ? words.with(person) : words.new}>
            {person && (
              <div className="talk-head">
                <h2>{person}</h2>
                {talk && blocks.value && !block && <BlockButton person={person} done={blocks.reload} />}
              </div>
            )}
            {!person && talks.length === 0 && <Empty title={words.empty}>{words.emptyHint}</Empty>}
            {!person && talks.length > 0 && <p className="hint">{words.choose}</p>}
            {talk && more && (
              <button type="button" className="link" onClick={() => setPages(pages + 1)}>
                {words.earlier}
              </button>
            )}
            {talk && person && <Bubbles talk={talk} />}
            {block ? (
              <Blocked block={block} done={blocks.reload} />
            ) : (
              <Compose
                key={person}
                to={person}
                sent={(receiver) => {
                  setParams({ with: receiver });
                  reload();
                }}
              />
            )}
          </section>
        </div>
      )}
    </Page>
  );
}

function BlockButton({ person, done }: { person: string; done: () => void }) {
  const [asking, setAsking] = useState(false);
  const say = useToast();
  const words = text.messages;
  async function block() {
    await ask(api.POST("/api/messages/blocks/", { body: { username: person } }));
    say(words.blocked(person));
    done();
  }
  return (
    <>
      <button type="button" className="link" onClick={() => setAsking(true)}>
        {words.block}
      </button>
      {asking && (
        <Confirm title={words.blockTitle(person)} action={words.block} bad confirm={block} close={() => setAsking(false)}>
          <p>{words.blockBody}</p>
        </Confirm>
      )}
    </>
  );
}

function Blocked({ block: { id, username }, done }: { block: Block; done: () => void }) {
  const say = useToast();
  const words = text.messages;
  async function unblock() {
    try {
      await ask(api.DELETE("/api/messages/blocks/{id}/", { params: { path: { id: String(id) } } }));
      say(words.unblocked(username));
    } catch (reason) {
      say(wordsFor(reason as Error), true);
    }
    done();
  }
  return (
    <div className="note">
      <p>{words.isBlocked(username)}</p>
      <button type="button" className="button small quiet" onClick={() => void unblock()}>
        {words.unblock}
      </button>
    </div>
  );
}

function Bubbles({ talk }: { talk: Talk }) {
  const words = text.messages;
  return (
    <ol className="bubbles">
      {talk.messages.map((message) => {
        const mine = message.sender !== talk.person;
        return (
          <li key={message.id} className={mine ? "bubble mine" : "bubble"}>
            <span className="unseen">{mine ? words.you : message.sender}</span>
            <p>{message.content}</p>
            <p className="bubble-foot">
              <time dateTime={message.timestamp}>{shortMoment(message.timestamp)}</time>
              {mine && <span>{message.read_at ? words.read(shortMoment(message.read_at)) : words.sent}</span>}
            </p>
          </li>
        );
      })}
    </ol>
  );
}

function Compose({ to, sent }: { to: string | null; sent: (receiver: string) => void }) {
  const [error, setError] = useState<Error>();
  const [busy, setBusy] = useState(false);
  const words = text.messages;
  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = event.currentTarget;
    const fields = new FormData(form);
    const receiver = to ?? String(fields.get("receiver")).trim();
    setBusy(true);
    setError(undefined);
    try {
      await ask(api.POST("/api/messages/", { body: { receiver, content: String(fields.get("content")) } }));
      form.reset();
      sent(receiver);
    } catch (reason) {
      setError(reason as Error);
    } finally {
      setBusy(false);
    }
  }
  const of = (field: string) => (error instanceof ProblemError ? error.of(field) : "") || undefined;
  const named = Boolean(of("receiver") ?? of("content"));
  return (
    <form className="compose" onSubmit={(event) => void submit(event)}>
      {to === null && (
        <Field label={words.to} hint={words.toHint} name="receiver" required autoComplete="off" error={of("receiver")} />
      )}
      <label className="field">
        <span>{words.words}</span>
        <textarea name="content" rows={3} required maxLength={LONGEST} />
      </label>
      {error && !(to === null && of("receiver")) && (
        <p className="field-error" role="alert">
          {named ? (of("content") ?? of("receiver")) : wordsFor(error)}
        </p>
      )}
      <button className="button" disabled={busy}>
        {words.send}
      </button>
    </form>
  );
}
