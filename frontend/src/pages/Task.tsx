import { useState } from "react";
import { Link } from "wouter";

import { api, ask, type Life, type TaskEvent } from "../api/client";
import { useEvery } from "../every";
import { duration, preciseMoment } from "../format";
import { useLoad } from "../load";
import { Canvas } from "../operations/Canvas";
import { Decide, type What } from "../operations/Decide";
import { words } from "../operations/text";
import { Confirm } from "../parts/Confirm";
import { Page } from "../parts/Page";
import { Failure, Skeleton } from "../parts/states";
import { useToast } from "../parts/toasts";
import { useSession } from "../session";

/** Milliseconds between two requests. */
const PACE = 3000;
const DECISIONS: Record<string, What[]> = { pending: ["run-now", "cancel"], published: ["cancel"], dead: ["replay", "discard"] };
const LOOKS: Record<string, string> = { failed: "retrying", died: "dead", due: "pending", expires: "cancelled", enqueued: "published" };

/** The timeline of one task, attempt by attempt, its related tasks, and the actions on it. */
export function Task({ id }: { id: string }) {
  const { flowerUrl } = useSession();
  const life = useLoad(`life ${id}`, (signal) => ask(api.GET("/api/ops/tasks/{task_id}/", { params: { path: { task_id: id } }, signal })));
  const [what, setWhat] = useState<What>();
  const [edits, setEdits] = useState(false);
  useEvery(PACE, life.reload);
  const found = life.value;
  const order = found?.task.subject?.match(/^store\.order:(\d+)$/)?.[1];
  return (
    <Page
      title={found?.task.task ?? words.task}
      lead={<code>{id}</code>}
      aside={
        <p className="outside">
          {flowerUrl && (
            <a href={`${flowerUrl.replace(/\/$/, "")}/task/${id}`} className="button small quiet">
              {words.flower}
            </a>
          )}
          <a href={`/admin/celery_ledger/durabletask/${id}/change/`} className="button small quiet">
            {words.admin}
          </a>
          <Link href="/operations/tasks" className="button small quiet">
            {words.tasks}
          </Link>
        </p>
      }
    >
      {life.error && <Failure error={life.error} retry={life.reload} />}
      {!found && !life.error && <Skeleton rows={5} />}
      {found && (
        <>
          <Facts life={found} order={order} />
          <div className="dead-acts">
            {(DECISIONS[found.task.status] ?? []).map((each) => (
              <button key={each} type="button" className="button small" onClick={() => setWhat(each)}>
                {words.decide2[each]}
              </button>
            ))}
            {found.task.status === "dead" && (
              <button type="button" className="button small quiet" onClick={() => setEdits(true)}>
                {words.edit}
              </button>
            )}
          </div>
          {found.task.canvas && <Canvas id={found.task.canvas} here={id} />}
          <section aria-labelledby="life">
            <h2 id="life">{words.life}</h2>
            <ol className="timeline life">
              {found.events.map((event) => (
                <Moment key={`${event.at} ${event.kind} ${event.attempt}`} event={event} />
              ))}
            </ol>
          </section>
          {found.result !== null && (
            <section aria-labelledby="result">
              <h2 id="result">{words.result}</h2>
              <pre className="step-error plain">{found.result}</pre>
            </section>
          )}
          <Relatives life={found} />
          {what && <Decide what={what} which={{ ids: [id] }} close={() => setWhat(undefined)} done={life.reload} />}
          {edits && <Edit life={found} close={() => setEdits(false)} done={life.reload} />}
        </>
      )}
    </Page>
  );
}

function Facts({ life, order }: { life: Life; order: string | undefined }) {
  const { task } = life;
  return (
    <dl className="facts">
      <div>
        <dt>{words.status}</dt>
        <dd>
          <span className={`state ${task.state}`}>{words.states[task.state as keyof typeof words.states] ?? task.state}</span>
        </dd>
      </div>
      <div>
        <dt>{words.queue}</dt>
        <dd>{task.queue}</dd>
      </div>
      <div>
        <dt>{words.arguments}</dt>
        <dd>
          <code>
            {JSON.stringify(task.args)} {JSON.stringify(task.kwargs)}
          </code>
        </dd>
      </div>
      {task.subject && (
        <div>
          <dt>{words.about}</dt>
          <dd>{order ? <Link href={`/orders/${order}`}>{words.order(order)}</Link> : <Link href={`/operations/tasks?subject=${encodeURIComponent(task.subject)}`}>{task.subject}</Link>}</dd>
        </div>
      )}
      {task.request_id && (
        <div>
          <dt>{words.request}</dt>
          <dd>
            <Link href={`/operations/tasks?request_id=${encodeURIComponent(task.request_id)}`}>{task.request_id}</Link>
          </dd>
        </div>
      )}
      {life.trace && (
        <div>
          <dt>{words.trace}</dt>
          <dd>
            <code>{life.trace}</code>
          </dd>
        </div>
      )}
    </dl>
  );
}

function Moment({ event }: { event: TaskEvent }) {
  return (
    <li className={`step ${event.is_ahead ? "pending" : (LOOKS[event.kind] ?? event.kind)}`} data-kind={event.kind}>
      <svg className="dot" viewBox="0 0 24 24" width="24" height="24" aria-hidden="true">
        <circle cx="12" cy="12" r="10" />
      </svg>
      <div className="step-body">
        <div className="step-head">
          <h3>
            {words.kinds[event.kind as keyof typeof words.kinds] ?? event.kind}
            {event.attempt !== null && `, ${words.attempt(event.attempt)}`}
          </h3>
          <time dateTime={event.at}>{preciseMoment(event.at)}</time>
        </div>
        <p className="step-facts">
          {event.took !== null && <span>{words.afterPublishing(duration(event.took))}</span>}
          {event.worker && <Link href="/operations/workers">{event.worker}</Link>}
        </p>
        {event.kind === "failed" || event.kind === "died" ? <pre className="step-error">{event.text}</pre> : <p className="hint">{event.text}</p>}
        {event.traceback && (
          <details>
            <summary>{words.traceback}</summary>
            <pre className="step-error" tabIndex={0}>
              {event.traceback}
            </pre>
          </details>
        )}
      </div>
    </li>
  );
}

function Relatives({ life }: { life: Life }) {
  if (!life.parent && life.called.length === 0) return null;
  return (
    <section aria-labelledby="relatives">
      <h2 id="relatives">{words.relatives}</h2>
      <ul className="relatives">
        {[...(life.parent ? [{ ...life.parent, how: words.calledBy }] : []), ...life.called.map((each) => ({ ...each, how: words.called }))].map((each) => (
          <li key={each.id}>
            {each.how} <Link href={`/operations/tasks/${each.id}`}>{each.task}</Link> <span className={`state ${each.status}`}>{each.status}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** Replay with different arguments. */
function Edit({ life, close, done }: { life: Life; close: () => void; done: () => void }) {
  const [args, setArgs] = useState(JSON.stringify(life.task.args));
  const [kwargs, setKwargs] = useState(JSON.stringify(life.task.kwargs));
  const say = useToast();
  const read = { args: parsed(args), kwargs: parsed(kwargs) };
  const ready = Array.isArray(read.args) && typeof read.kwargs === "object" && read.kwargs !== null && !Array.isArray(read.kwargs);
  return (
    <Confirm
      title={words.editNamed}
      action={words.replay}
      ready={ready}
      confirm={async () => {
        const body = { args: read.args as unknown[], kwargs: read.kwargs as Record<string, unknown> };
        await ask(api.POST("/api/ops/dead/{task_id}/replay/", { params: { path: { task_id: life.task.id } }, body }));
        say(words.replayed(1));
        done();
      }}
      close={close}
    >
      <div className="field">
        <label htmlFor="edit-args">{words.positional}</label>
        <textarea id="edit-args" rows={3} value={args} onChange={(event) => setArgs(event.currentTarget.value)} />
      </div>
      <div className="field">
        <label htmlFor="edit-kwargs">{words.named}</label>
        <textarea id="edit-kwargs" rows={3} value={kwargs} onChange={(event) => setKwargs(event.currentTarget.value)} />
      </div>
    </Confirm>
  );
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
