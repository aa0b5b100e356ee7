import { useState } from "react";
import { Link } from "wouter";

import { api, ask, type Schedule, type TellSchedule } from "../api/client";
import { useEvery } from "../every";
import { duration, moment } from "../format";
import { useLoad } from "../load";
import { Places } from "../operations/Places";
import { Asked, type Question } from "../operations/Question";
import { words } from "../operations/text";
import { Page } from "../parts/Page";
import { Empty, Failure, Skeleton } from "../parts/states";

/** Milliseconds between two requests. */
const PACE = 5000;

/** The schedules; late and broken ones first. */
export function Schedules() {
  const schedules = useLoad("schedules", (signal) => ask(api.GET("/api/ops/schedules/", { params: { query: { page_size: 100 } }, signal })));
  const [question, setQuestion] = useState<Question>();
  useEvery(PACE, schedules.reload);
  const rows = schedules.value?.results;
  return (
    <Page title={words.schedules} lead={words.schedulesLead}>
      <Places />
      {schedules.error && <Failure error={schedules.error} retry={schedules.reload} />}
      {!rows && !schedules.error && <Skeleton rows={5} />}
      {rows?.length === 0 && <Empty title={words.noSchedules}>{words.noSchedulesHint}</Empty>}
      <ul className="crew">
        {rows?.map((each) => (
          <Card key={each.id} schedule={each} ask={setQuestion} />
        ))}
      </ul>
      {question && <Asked question={question} close={() => setQuestion(undefined)} done={schedules.reload} />}
    </Page>
  );
}

function Card({ schedule, ask: put }: { schedule: Schedule; ask: (question: Question) => void }) {
  const { id, name } = schedule;
  const tell = (what: TellSchedule["what"]): Question => ({
    title: words.scheduleNamed[what](name),
    body: <p>{words.scheduleBody[what]}</p>,
    action: words.schedule[what],
    act: () => ask(api.POST("/api/ops/schedules/{id}/tell/", { params: { path: { id: String(id) } }, body: { what } })).then(() => words.scheduleDone[what](name)),
  });
  const acts: TellSchedule["what"][] = ["run-now", schedule.enabled ? "pause" : "resume"];
  return (
    <li className="dead-group" data-schedule={name}>
      <div className="dead-head">
        <div>
          <h2>
            {name} {!schedule.enabled && <span className="state retrying">{words.paused}</span>}
          </h2>
          <p className="hint">
            {schedule.times} · <code>{schedule.task}</code>
          </p>
        </div>
        <div className="dead-acts">
          {acts.map((what) => (
            <button key={what} type="button" className="button small quiet" onClick={() => put(tell(what))}>
              {words.schedule[what]} <span className="unseen">{name}</span>
            </button>
          ))}
          <a className="button small quiet" href={`/admin/django_celery_beat/periodictask/${id}/change/`}>
            {words.editSchedule} <span className="unseen">{name}</span>
          </a>
        </div>
      </div>
      {schedule.late_since && <p className="note bad">{words.lateSince(moment(schedule.late_since))}</p>}
      {schedule.problem && <p className="note bad">{words.neverRuns(schedule.problem)}</p>}
      <dl className="facts">
        <div>
          <dt>{words.lastRuns}</dt>
          <dd>
            {schedule.runs.length === 0 && words.neverRan}
            <ul className="doing">
              {schedule.runs.map((run) => (
                <li key={run.task_id}>
                  <Link href={`/operations/tasks/${run.task_id}`}>{words.ranFor(moment(run.enqueued_at), run.took_seconds === null ? "" : duration(run.took_seconds))}</Link>{" "}
                  <span className={`state ${run.status}`}>{run.status ? words.states[run.status as keyof typeof words.states] : words.pruned}</span> {run.error}
                </li>
              ))}
            </ul>
          </dd>
        </div>
        {schedule.next_due.length > 0 && (
          <div>
            <dt>{words.nextDue}</dt>
            <dd>
              <ul className="doing">
                {schedule.next_due.map((time) => (
                  <li key={time}>{moment(time)}</li>
                ))}
              </ul>
            </dd>
          </div>
        )}
      </dl>
    </li>
  );
}
