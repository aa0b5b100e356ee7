import { useState } from "react";

import { api, ask, type DeadGroup as Group, type DeadTask } from "../api/client";
import { moment } from "../format";
import { useLoad } from "../load";
import { Failure, Skeleton } from "../parts/states";
import { words } from "./text";
import type { Question } from "./Question";


/** Dead letters of one kind, with actions on all of them or on one. */
export function DeadGroup({ group, ask: put }: { group: Group; ask: (question: Question) => void }) {
  const [open, setOpen] = useState(false);
  const { fingerprint, task, count } = group;
  const replay: Question = {
    title: words.replayNamed(count),
    body: <p>{words.replayBody(task)}</p>,
    action: words.replay,
    act: () => ask(api.POST("/api/ops/dead/replay/", { body: { fingerprint } })).then((done) => ("decision" in done ? words.underWay(done.count) : words.replayed(done.count))),
  };
  const discard: Question = {
    title: words.discardNamed(count),
    body: <p>{words.discardBody(task)}</p>,
    action: words.discard,
    bad: true,
    needsReason: true,
    act: (reason) =>
      ask(api.POST("/api/ops/dead/discard/", { body: { fingerprint, reason } })).then((done) => ("decision" in done ? words.underWay(done.count) : words.discarded(done.count))),
  };
  return (
    <li className="dead-group" data-task={task}>
      <div className="dead-head">
        <div>
          <h3>
            <code>{task}</code>
          </h3>
          <p className="hint">
            {words.letters(count)} · {words.since(moment(group.first_at), moment(group.last_at))}
          </p>
        </div>
        <div className="dead-acts">
          <button type="button" className="link" aria-expanded={open} onClick={() => setOpen(!open)}>
            {open ? words.hide : words.show}
          </button>
          <button type="button" className="button small" onClick={() => put(replay)}>
            {words.replay}
          </button>
          <button type="button" className="button small quiet" onClick={() => put(discard)}>
            {words.discard}
          </button>
        </div>
      </div>
      <pre className="step-error">{group.example}</pre>
      {open && <Letters fingerprint={fingerprint} count={count} ask={put} />}
    </li>
  );
}

interface LettersProps {
  fingerprint: string;
  count: number;
  ask: (question: Question) => void;
}

function Letters({ fingerprint, count, ask: put }: LettersProps) {
  const letters = useLoad(`letters ${fingerprint} ${count}`, (signal) =>
    ask(api.GET("/api/ops/dead/", { params: { query: { fingerprint, page_size: 100 } }, signal })),
  );
  if (letters.error) return <Failure error={letters.error} retry={letters.reload} />;
  if (!letters.value) return <Skeleton rows={1} />;
  return (
    <>
      <ul className="letters">
        {letters.value.results.map((letter) => (
          <Letter key={letter.id} letter={letter} ask={put} />
        ))}
      </ul>
      {letters.value.next && <p className="hint">{words.firstOnly(letters.value.results.length, letters.value.count)}</p>}
    </>
  );
}

function Letter({ letter, ask: put }: { letter: DeadTask; ask: (question: Question) => void }) {
  const params = { path: { task_id: letter.id } };
  return (
    <li className="letter">
      <dl>
        <div>
          <dt>{words.arguments}</dt>
          <dd>
            <code>{JSON.stringify(letter.args)}</code>
          </dd>
        </div>
        {letter.subject && (
          <div>
            <dt>{words.about}</dt>
            <dd>{letter.subject}</dd>
          </div>
        )}
        <div>
          <dt>{words.attempts}</dt>
          <dd>{letter.attempts}</dd>
        </div>
        <div>
          <dt>{words.died}</dt>
          <dd>{letter.completed_at && moment(letter.completed_at)}</dd>
        </div>
      </dl>
      <div className="dead-acts">
        <button
          type="button"
          className="link"
          onClick={() =>
            put({
              title: words.replayNamed(1),
              body: <p>{words.replayBody(letter.task)}</p>,
              action: words.replay,
              act: () => ask(api.POST("/api/ops/dead/{task_id}/replay/", { params, body: {} })).then(() => words.replayed(1)),
            })
          }
        >
          {words.replay}
        </button>
        <button
          type="button"
          className="link"
          onClick={() =>
            put({
              title: words.discardNamed(1),
              body: <p>{words.discardBody(letter.task)}</p>,
              action: words.discard,
              bad: true,
              needsReason: true,
              act: (reason) =>
                ask(api.POST("/api/ops/dead/{task_id}/discard/", { params, body: { reason } })).then(() => words.discarded(1)),
            })
          }
        >
          {words.discard}
        </button>
      </div>
    </li>
  );
}
