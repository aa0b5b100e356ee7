import { useState } from "react";

import { api, ask, type DecideRequest } from "../api/client";
import { useLoad } from "../load";
import { Confirm } from "../parts/Confirm";
import { Field } from "../parts/Field";
import { Failure, Skeleton } from "../parts/states";
import { useToast } from "../parts/toasts";
import { words } from "./text";

export type What = DecideRequest["what"];

interface Props {
  what: What;
  /** The selected tasks: ids, or a search. */
  which: Pick<DecideRequest, "ids" | "search">;
  close: () => void;
  done: () => void;
}

/** A dialog for an action on many tasks: their number, the reason and the rate. */
export function Decide({ what, which, close, done }: Props) {
  const [reason, setReason] = useState("");
  const [rate, setRate] = useState("");
  const say = useToast();
  const preview = useLoad(`preview ${what} ${JSON.stringify(which)}`, (signal) =>
    ask(api.POST("/api/ops/tasks/decide/", { body: { what, ...which, dry_run: true }, signal })),
  );
  const needsReason = what === "cancel" || what === "discard";
  const counted = preview.value;
  const isRate = rate === "" || Number(rate) >= 0.01;
  return (
    <Confirm
      title={words.decide1[what]}
      action={words.decide2[what]}
      bad={needsReason}
      ready={Boolean(counted?.count) && (!needsReason || reason.trim() !== "") && isRate}
      confirm={async () => {
        const answer = await ask(
          api.POST("/api/ops/tasks/decide/", {
            body: { what, ...which, dry_run: false, ...(reason.trim() && { reason: reason.trim() }), ...(!needsReason && rate && { per_second: Number(rate) }) },
          }),
        );
        say(answer.decision ? words.decidedLater(answer.count) : words.decidedNow[what](answer.count));
        done();
      }}
      close={close}
    >
      {preview.error && <Failure error={preview.error} retry={preview.reload} />}
      {!counted && !preview.error && <Skeleton rows={1} />}
      {counted && (
        <p role="status">
          <strong>{words.counted(counted.count, counted.count_is)}</strong> {words.decideBody[what]}
        </p>
      )}
      <Field label={needsReason ? words.reason : words.reasonIfAny} value={reason} maxLength={300} onChange={(event) => setReason(event.target.value)} />
      {!needsReason && (
        <Field label={words.rate} hint={words.rateHint} type="number" min="0.01" step="any" value={rate} onChange={(event) => setRate(event.target.value)} />
      )}
    </Confirm>
  );
}
