import { type ReactNode, useEffect, useId, useRef, useState } from "react";

import { text } from "../text";
import { wordsFor } from "./states";

interface Props {
  title: string;
  /** What will happen. */
  children: ReactNode;
  /** The label of the confirming button. */
  action: string;
  bad?: boolean;
  /** Whether the action can be confirmed now. */
  ready?: boolean;
  confirm: () => Promise<void>;
  close: () => void;
}

/** A confirmation dialog. If the action fails, it stays open and shows why. */
export function Confirm({ title, children, action, bad = false, ready = true, confirm, close }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error>();
  const id = useId();
  useEffect(() => dialog.current?.showModal(), []);

  async function act() {
    setBusy(true);
    setError(undefined);
    try {
      await confirm();
      close();
    } catch (reason) {
      setError(reason as Error);
      setBusy(false);
    }
  }
  return (
    <dialog ref={dialog} className="dialog" aria-labelledby={id} onClose={close}>
      <h2 id={id}>{title}</h2>
      <div className="dialog-body">{children}</div>
      {error && (
        <p className="field-error" role="alert">
          {wordsFor(error)}
        </p>
      )}
      <div className="dialog-actions">
        <button type="button" className="button quiet" onClick={() => dialog.current?.close()}>
          {text.nevermind}
        </button>
        <button type="button" className={bad ? "button danger" : "button"} disabled={busy || !ready} onClick={() => void act()}>
          {action}
        </button>
      </div>
    </dialog>
  );
}
