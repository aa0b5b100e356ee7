import { api, ask } from "../api/client";
import { useLoad } from "../load";
import { useEvery } from "../every";
import { words } from "./text";

/** Milliseconds between two requests for their progress. */
const PACE = 2000;

/** Actions on very many dead letters, which a worker carries out in portions, and their progress. */
export function Decisions() {
  const decisions = useLoad("decisions", (signal) => ask(api.GET("/api/ops/decisions/", { params: { query: { page_size: 5 } }, signal })));
  useEvery(PACE, decisions.reload);
  const going = (decisions.value?.results ?? []).filter(({ ended_at }) => ended_at === null);
  return (
    <ul className="decisions" aria-label={words.decisions}>
      {going.map(({ id, what, done, wanted, percent }) => (
        <li key={id} data-decision={id}>
          <label htmlFor={`decision-${id}`}>{words.decided(what, done, wanted)}</label>
          <progress id={`decision-${id}`} max={100} value={percent} />
        </li>
      ))}
    </ul>
  );
}
