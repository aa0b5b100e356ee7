import type { OrderTask } from "../api/client";
import { between, duration } from "../format";
import { text } from "../text";

/** Statuses that a task does not leave by itself. */
const FINAL = new Set<OrderTask["status"]>(["succeeded", "dead", "cancelled"]);

/** Whether there is nothing more to wait for. */
export function isSettled(tasks: OrderTask[]): boolean {
  return tasks.every((task) => FINAL.has(task.status));
}

/** Whether a task failed and waits for its next attempt. */
function isRetrying(task: OrderTask): boolean {
  return !FINAL.has(task.status) && (Boolean(task.last_error) || task.attempts > 1);
}

/** The task that records that all others of its chord are done. */
const SETTLEMENT = "store.tasks.record_settlement";

/** Whether an order is recorded as settled. */
export function isRecorded(tasks: OrderTask[]): boolean {
  return tasks.some((task) => task.task === SETTLEMENT && task.status === "succeeded");
}

/** The tasks that an order's settlement still waits for; empty: it has been recorded, or never will be. */
function awaited(tasks: OrderTask[]): OrderTask[] {
  if (tasks.some((task) => task.task === SETTLEMENT)) return [];
  return tasks.filter((task) => task.canvas && task.status !== "succeeded");
}

/** The status of each task of an order, live. Only staff see its name, queue and errors. */
export function Timeline({ tasks, staff = false }: { tasks: OrderTask[]; staff?: boolean }) {
  const longest = Math.max(0.001, ...tasks.map(total));
  return (
    <>
      <ol className="timeline">
        {tasks.map((task) => (
          <Step key={task.id} task={task} longest={longest} staff={staff} />
        ))}
        <Settlement awaits={awaited(tasks)} />
      </ol>
      <p className="legend hint">
        <span className="waited">{text.timeline.legend.waited}</span>
        <span className="worked">{text.timeline.legend.worked}</span>
      </p>
    </>
  );
}

function total(task: OrderTask): number {
  return task.completed_at ? between(task.enqueued_at, task.completed_at) : 0;
}

function Step({ task, longest, staff }: { task: OrderTask; longest: number; staff: boolean }) {
  const words = text.timeline;
  const retrying = isRetrying(task);
  const state = retrying ? "retrying" : task.status;
  const took = total(task);
  const said = retrying ? words.retrying : staff && state === "dead" ? words.deadToStaff : words.statuses[task.status];
  return (
    <li className={`step ${state}`} data-task={task.task} data-status={task.status}>
      <Dot state={state} />
      <div className="step-body">
        <div className="step-head">
          <h3>{task.label}</h3>
          <span className={`state ${state}`}>{said}</span>
        </div>
        <p className="step-facts">
          {staff && <code>{task.task}</code>}
          {staff && <span>{words.queue(task.queue)}</span>}
          {task.attempts > (staff ? 0 : 1) && <span>{words.attempts(task.attempts)}</span>}
          {task.status === "succeeded" && <span>{words.after(duration(took))}</span>}
        </p>
        {task.status === "succeeded" && <Bar task={task} longest={longest} />}
        {task.last_error &&
          task.status !== "succeeded" &&
          (staff ? <pre className="step-error">{task.last_error}</pre> : <p className="step-trouble">{task.last_error}</p>)}
      </div>
    </li>
  );
}

/** The settlement of an order before it is called: what it waits for, or what holds it up. */
function Settlement({ awaits }: { awaits: OrderTask[] }) {
  if (awaits.length === 0) return null;
  const words = text.timeline;
  const state = (["dead", "cancelled"] as const).find((status) => awaits.some((task) => task.status === status)) ?? "waiting";
  const labels = [...new Set(awaits.filter((task) => state === "waiting" || task.status === state).map((task) => task.label))].join(", ");
  const says = { waiting: words.waitsFor, dead: words.heldUp, cancelled: words.givenUp }[state];
  return (
    <li className="step pending" data-task={SETTLEMENT} data-status={state}>
      <Dot state="pending" />
      <div className="step-body">
        <div className="step-head">
          <h3>{words.settlement}</h3>
          <span className={`state ${state === "dead" ? "dead" : "pending"}`}>{words.awaits[state]}</span>
        </div>
        <p className="step-facts">{says(labels)}</p>
      </div>
    </li>
  );
}

/** How long a task waited for the relay and was with a worker, relative to the slowest task of the order. */
function Bar({ task, longest }: { task: OrderTask; longest: number }) {
  if (!task.completed_at) return null;
  const published = task.published_at ?? task.completed_at;
  const waited = (Math.max(0, between(task.enqueued_at, published)) / longest) * 100;
  const worked = (Math.max(0, between(published, task.completed_at)) / longest) * 100;
  return (
    <svg className="bar" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
      <rect className="bar-ground" width="100" height="4" />
      <rect className="bar-waited" width={waited} height="4" />
      <rect className="bar-worked" x={waited} width={Math.max(0.5, worked)} height="4" />
    </svg>
  );
}

function Dot({ state }: { state: string }) {
  return (
    <svg className="dot" viewBox="0 0 24 24" width="24" height="24" aria-hidden="true">
      <circle cx="12" cy="12" r="10" />
      {state === "succeeded" && <path d="M7.5 12.5l3 3 6-6.5" />}
      {state === "dead" && <path d="M12 6.5v7M12 17v.5" />}
      {state === "cancelled" && <path d="M8 12h8" />}
      {state === "retrying" && <path d="M8 9.5a5 5 0 1 1-1 4.5M7.5 6v4h4" />}
    </svg>
  );
}
