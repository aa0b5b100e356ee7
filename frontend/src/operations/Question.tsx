import { type ReactNode, useState } from "react";

import { Confirm } from "../parts/Confirm";
import { Field } from "../parts/Field";
import { useToast } from "../parts/toasts";
import { words } from "./text";


/** What is asked before it is done. */
export interface Question {
  title: string;
  body: ReactNode;
  action: string;
  bad?: boolean;
  needsReason?: boolean;
  /** Do it, and return what was done. */
  act: (reason: string) => Promise<string>;
}

/** The dialog that asks it, for its reason where it needs one. */
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
