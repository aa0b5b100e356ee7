import { type ReactNode, useState } from "react";

import { Confirm } from "../parts/Confirm";
import { Field } from "../parts/Field";
import { useToast } from "../parts/toasts";
import { words } from "./text";


/** A confirmation before an action. */
export interface Question {
  title: string;
  body: ReactNode;
  action: string;
  bad?: boolean;
  needsReason?: boolean;
  /** Perform the action, and return a message about it. */
  act: (reason: string) => Promise<string>;
}

/** The confirmation dialog, with a field for the reason if one is needed. */
export function Asked({ question, close, done }: { question: Question; close: () => void; done: () => void }) {
  const [reason, setReason] = useState("");
  const say = useToast();
  const { needsReason = false } = question;
  return (
    <Confirm
      title={question.title}
      action={question.action}
      bad={question.bad ?? false}
      ready={!needsReason || reason.trim() !== ""}
      confirm={async () => {
        say(await question.act(reason.trim()));
        done();
      }}
      close={close}
    >
      {question.body}
      {needsReason && <Field label={words.reason} value={reason} maxLength={300} onChange={(event) => setReason(event.target.value)} />}
    </Confirm>
  );
}
