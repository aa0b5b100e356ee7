import { type ReactNode, useEffect, useId, useRef, useState } from "react";

import { text } from "../text";
import { wordsFor } from "./states";

interface Props {
  title: string;
  /** What will happen. */
  children: ReactNode;
  /** The word on the button that does it. */
  action: string;
  bad?: boolean;
  /** Must hold before it can be done. */
  ready?: boolean;
  confirm: () => Promise<void>;
  close: () => void;
}

/** A question before something is done. It stays open, and says why, where doing it failed. */
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
