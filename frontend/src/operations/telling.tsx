import { api, ask, type Tell } from "../api/client";
import type { Question } from "./Question";
import { words } from "./text";

/** Return the confirmation for instructing a process. */
export function telling(process: string, what: Tell["what"]): Question {
  return {
    title: words.tellNamed[what](process),
    body: <p>{words.tellBody[what]}</p>,
    action: words.tell[what],
    bad: what === "stop",
    act: () => ask(api.POST("/api/ops/processes/{process}/tell/", { params: { path: { process } }, body: { what } })).then(() => words.toldNow(process)),
  };
}
