import { useState } from "react";
import { Link, useSearchParams } from "wouter";

import { api, ask, type FoundTask, type TaskSearch } from "../api/client";
import { useEvery } from "../every";
import { duration, moment } from "../format";
import { useLoad } from "../load";
import { Decide, type What } from "../operations/Decide";
import { Places } from "../operations/Places";
import { words } from "../operations/text";
import { Field } from "../parts/Field";
import { Page } from "../parts/Page";
import { Empty, Failure, Skeleton } from "../parts/states";

const STATES = ["", "retrying", "scheduled", "pending", "published", "running", "dead", "succeeded", "cancelled"] as const;
const FILTERS = ["q", "task", "queue", "argument", "error", "newer_than", "older_than", "slower_than", "subject", "request_id"] as const;
/** The actions possible for tasks in each state. */
const DECISIONS: Record<string, What[]> = {
  "": ["cancel", "replay"],
  retrying: ["run-now", "cancel"],
  scheduled: ["run-now", "cancel"],
  pending: ["cancel"],
  published: ["cancel"],
  dead: ["replay", "discard"],
};
/** Milliseconds between two requests. */
const PACE = 5000;

/** Search for tasks. The page's URL contains the search, so that it can be bookmarked and shared. */
export function Tasks() {
  const [params, setParams] = useSearchParams();
  const status = params.get("status") ?? "";
  const search = searchOf(params);
  const after = params.get("after");
  const key = `tasks ${params.toString()}`;
  const found = useLoad(key, (signal) => ask(api.GET("/api/ops/tasks/", { params: { query: { ...search, ...(after && { after }), page_size: 50 } }, signal })));
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [what, setWhat] = useState<What>();
  useEvery(PACE, found.reload);

  const go = (changes: Record<string, string>) => {
    const next = new URLSearchParams(params);
    next.delete("after");
    for (const [name, value] of Object.entries(changes)) {
      if (value) next.set(name, value);
      else next.delete(name);
    }
    setChosen(new Set());
    setParams(next);
  };
  const page = found.value;
  const ids = [...chosen];
  return (
    <Page title={words.tasks} lead={words.tasksLead}>
      <Places />
      <nav className="states" aria-label={words.status}>
        {STATES.map((state) => (
          <Link key={state} href={`/operations/tasks?${withState(params, state)}`} aria-current={state === status ? "page" : undefined}>
            {words.states[state]}
          </Link>
        ))}
      </nav>
      <Filters key={params.toString()} params={params} go={go} />
      {found.error && <Failure error={found.error} retry={found.reload} />}
      {!page && !found.error && <Skeleton rows={6} />}
      {page && (
        <>
          <div className="found">
            <p role="status">
              {words.counted(page.count, page.count_is)}
              {page.looked_to && ` ${words.lookedTo(moment(page.looked_to))}`}
            </p>
            <div className="dead-acts">
              {(DECISIONS[status] ?? []).map((each) => (
                <button key={each} type="button" className="button small quiet" onClick={() => setWhat(each)}>
                  {words.decide2[each]} {ids.length ? words.chosen(ids.length) : words.allFound}
                </button>
              ))}
            </div>
          </div>
          {page.results.length === 0 && !page.after && <Empty title={words.noTasks}>{words.noTasksHint}</Empty>}
          {page.results.length > 0 && <Table tasks={page.results} chosen={chosen} choose={setChosen} />}
          <nav className="pager" aria-label={words.pages}>
            {after && (
              <button type="button" className="button quiet" onClick={() => go({})}>
                {words.first}
              </button>
            )}
            {page.after && (
              <button type="button" className="button quiet" onClick={() => go({ after: page.after! })}>
                {page.looked_to ? words.lookFurther : words.next}
              </button>
            )}
          </nav>
        </>
      )}
      {what && <Decide what={what} which={ids.length ? { ids } : { search }} close={() => setWhat(undefined)} done={() => { setChosen(new Set()); found.reload(); }} />}
    </Page>
  );
}

function searchOf(params: URLSearchParams): TaskSearch {
  const given = ["status", ...FILTERS].flatMap((name) => (params.get(name) ? [[name, params.get(name)!]] : []));
  return Object.fromEntries(given) as TaskSearch;
}

function withState(params: URLSearchParams, state: string): string {
  const next = new URLSearchParams(params);
  next.delete("after");
  if (state) next.set("status", state);
  else next.delete("status");
  return next.toString();
}

function Filters({ params, go }: { params: URLSearchParams; go: (changes: Record<string, string>) => void }) {
  const [values, setValues] = useState<Record<string, string>>(() => Object.fromEntries(FILTERS.map((name) => [name, params.get(name) ?? ""])));
  const rest = FILTERS.filter((name) => name !== "q");
  const field = (name: (typeof FILTERS)[number]) => (
    <Field
      key={name}
      label={words.filters[name].label}
      placeholder={words.filters[name].such}
      value={values[name] ?? ""}
      maxLength={200}
      onChange={(event) => setValues({ ...values, [name]: event.target.value })}
    />
  );
  return (
    <form
      className="task-filters"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        go(Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value.trim()])));
      }}
    >
      <div className="task-find">
        {field("q")}
        <button type="submit" className="button">
          {words.find}
        </button>
      </div>
      <details open={rest.some((name) => params.get(name))}>
        <summary>{words.moreFilters}</summary>
        <div className="task-more">{rest.map(field)}</div>
      </details>
    </form>
  );
}

interface TableProps {
  tasks: FoundTask[];
  chosen: ReadonlySet<string>;
  choose: (chosen: ReadonlySet<string>) => void;
}

function Table({ tasks, chosen, choose }: TableProps) {
  const all = tasks.every((task) => chosen.has(task.id));
  const toggle = (ids: string[], on: boolean) => {
    const next = new Set(chosen);
    for (const id of ids) if (on) next.add(id);
      else next.delete(id);
    choose(next);
  };
  return (
    <div className="table-frame" tabIndex={0} role="region" aria-label={words.tasks}>
      <table className="tasks">
        <thead>
          <tr>
            <th scope="col">
              <input type="checkbox" aria-label={words.chooseAll} checked={all} onChange={(event) => toggle(tasks.map(({ id }) => id), event.currentTarget.checked)} />
            </th>
            <th scope="col">{words.task}</th>
            <th scope="col">{words.status}</th>
            <th scope="col">{words.when}</th>
            <th scope="col" className="amount">{words.attempts}</th>
            <th scope="col">{words.error}</th>
          </tr>
        </thead>
        <tbody>
          {tasks.map((task) => (
            <tr key={task.id} data-id={task.id} data-task={task.task}>
              <td>
                <input type="checkbox" aria-label={words.choose(task.task, task.id)} checked={chosen.has(task.id)} onChange={(event) => toggle([task.id], event.currentTarget.checked)} />
              </td>
              <th scope="row">
                <Link href={`/operations/tasks/${task.id}`}>{task.task}</Link>
                <code className="arguments">{argumentsOf(task)}</code>
              </th>
              <td>
                <span className={`state ${task.state}`}>{words.states[task.state as keyof typeof words.states] ?? task.state}</span>
              </td>
              <td>{whenOf(task)}</td>
              <td className="amount">{task.attempts}</td>
              <td className="task-error">{task.last_error}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

export function argumentsOf({ args, kwargs }: FoundTask): string {
  const named = Object.entries((kwargs ?? {}) as Record<string, unknown>).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  const said = [...((args ?? []) as unknown[]).map((value) => JSON.stringify(value)), ...named].join(", ");
  return said.length > 120 ? `(${said.slice(0, 120)}…)` : `(${said})`;
}

function whenOf(task: FoundTask): string {
  if (task.next_at && (task.state === "retrying" || task.state === "scheduled")) return words.nextAt(moment(task.next_at));
  if (task.completed_at) return task.seconds === null ? moment(task.completed_at) : words.endedAt(moment(task.completed_at), duration(task.seconds));
  return moment(task.enqueued_at);
}
