import { useState } from "react";

import { api, ask, type Limit } from "../api/client";
import { useEvery } from "../every";
import { moment } from "../format";
import { useForm } from "../form";
import { useLoad } from "../load";
import { Places } from "../operations/Places";
import { Asked, type Question } from "../operations/Question";
import { words } from "../operations/text";
import { Field } from "../parts/Field";
import { Page } from "../parts/Page";
import { Empty, Failure, Skeleton } from "../parts/states";
import { useToast } from "../parts/toasts";

/** Milliseconds between two requests. */
const PACE = 3000;

/** All limits, by queue, task and key, and how many tasks each holds back. */
export function Limits() {
  const limits = useLoad("limits", (signal) => ask(api.GET("/api/ops/limits/", { params: { query: { page_size: 100 } }, signal })));
  const [question, setQuestion] = useState<Question>();
  useEvery(PACE, limits.reload);
  const rows = limits.value?.results;
  return (
    <Page title={words.limits} lead={words.limitsLead}>
      <Places />
      {limits.error && <Failure error={limits.error} retry={limits.reload} />}
      {!rows && !limits.error && <Skeleton rows={4} />}
      {rows?.length === 0 && <Empty title={words.noLimits}>{words.noLimitsHint}</Empty>}
      <ul className="crew">
        {rows?.map((each) => (
          <Card key={`${each.kind} ${each.name}`} limit={each} ask={setQuestion} />
        ))}
      </ul>
      <NewLimit done={limits.reload} />
      {question && <Asked question={question} close={() => setQuestion(undefined)} done={limits.reload} />}
    </Page>
  );
}

function Card({ limit, ask: put }: { limit: Limit; ask: (question: Question) => void }) {
  const { kind, name } = limit;
  const facts: [string, string][] = [[words.heldBack, words.heldBackSays(limit.held_back, limit.held_back_is)]];
  if (limit.until) facts.push([words.heldUntil, moment(limit.until)]);
  if (limit.under_way !== null) facts.push([words.underWayNow, words.amount(limit.under_way)]);
  return (
    <li className="dead-group" data-limit={name}>
      <div className="dead-head">
        <div>
          <h2>{name}</h2>
          <p>
            <span className="state">{words.limitKinds[kind]}</span> {words.limitSays(limit.said, limit.concurrency)} · {limit.by_operator ? words.byOperator : words.byCode}
          </p>
        </div>
        {kind !== "key" && limit.by_operator && (
          <div className="dead-acts">
            <button type="button" className="button small quiet" onClick={() => put(lifting(kind, name))}>
              {words.liftLimit} <span className="unseen">{name}</span>
            </button>
          </div>
        )}
      </div>
      <dl className="facts">
        {facts.map(([fact, value]) => (
          <div key={fact}>
            <dt>{fact}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </li>
  );
}

/** Set the limits of a queue, or the rate of a task; empty fields remove them. */
function setLimit(kind: "queue" | "task", name: string, rate: string | null, concurrency: number | null) {
  return kind === "task"
    ? ask(api.POST("/api/ops/limits/tasks/{task}/", { params: { path: { task: name } }, body: { rate } }))
    : ask(api.POST("/api/ops/queues/{queue}/limits/", { params: { path: { queue: name } }, body: { per_second: rate === null ? null : Number(rate), concurrency } }));
}

/** Return the confirmation for removing an operator's limit. */
function lifting(kind: "queue" | "task", name: string): Question {
  return {
    title: words.liftNamed(name),
    body: <p>{words.liftBody[kind]}</p>,
    action: words.liftLimit,
    act: () => setLimit(kind, name, null, null).then(() => words.liftDone(name)),
  };
}

function NewLimit({ done }: { done: () => void }) {
  const [kind, setKind] = useState<"queue" | "task">("queue");
  const say = useToast();
  const form = useForm(async ({ name = "", rate = "", concurrency = "" }, sent) => {
    await setLimit(kind, name.trim(), rate.trim() || null, concurrency ? Number(concurrency) : null);
    say(words.limitDone(name.trim()));
    sent.reset();
    done();
  });
  return (
    <section aria-labelledby="new-limit">
      <h2 id="new-limit">{words.newLimit}</h2>
      <form className="limit-form" onSubmit={form.onSubmit}>
        <fieldset className="quiet-hours">
          <legend>{words.limitWhat}</legend>
          {(["queue", "task"] as const).map((each) => (
            <label key={each}>
              <input type="radio" name="kind" value={each} checked={kind === each} onChange={() => setKind(each)} /> {words.limitKinds[each]}
            </label>
          ))}
        </fieldset>
        <Field label={words.limitName[kind]} name="name" required maxLength={255} />
        {kind === "queue" ? (
          <>
            <Field key="queue" label={words.perSecond} name="rate" type="number" min="0.001" step="any" error={form.of("per_second")} />
            <Field label={words.atOnce} name="concurrency" type="number" min="1" step="1" error={form.of("concurrency")} />
          </>
        ) : (
          <Field key="task" label={words.taskRate} name="rate" hint={words.taskRateHint} required maxLength={64} error={form.of("rate")} />
        )}
        {form.wrong && (
          <p role="alert" className="field-error">
            {form.wrong}
          </p>
        )}
        <button type="submit" className="button" disabled={form.busy}>
          {words.setLimit}
        </button>
      </form>
    </section>
  );
}
