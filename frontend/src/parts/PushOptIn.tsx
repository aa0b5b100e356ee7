import { useEffect, useState } from "react";

import { isAble, isOn, type Obstacle, PushError, turnOff, turnOn } from "../push";
import { text } from "../text";
import { wordsFor } from "./states";

const words = text.account;
const OBSTACLES: Record<Obstacle, string> = {
  unable: words.pushUnable,
  denied: words.pushDenied,
  failed: words.pushFailed,
  none: words.pushNone,
};

/** The switch for Web Push in this browser. The browser's permission is requested only when it is pressed. */
export function PushOptIn({ user }: { user: number }) {
  const [on, setOn] = useState<boolean>();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error>();
  useEffect(() => {
    isOn(user).then(setOn, setError);
  }, [user]);

  async function change() {
    setBusy(true);
    setError(undefined);
    try {
      await (on ? turnOff() : turnOn(user));
    } catch (reason) {
      setError(reason as Error);
    } finally {
      setOn(await isOn(user));
      setBusy(false);
    }
  }
  return (
    <section aria-labelledby="push">
      <h2 id="push">{words.push}</h2>
      <div className="sheet">
        <p className="hint">{on ? words.pushIsOn : isAble() ? words.pushHint : words.pushUnable}</p>
        {error && (
          <p className="field-error" role="alert">
            {error instanceof PushError ? OBSTACLES[error.obstacle] : wordsFor(error)}
          </p>
        )}
        {isAble() && (
          <button type="button" className={on ? "button quiet" : "button"} disabled={busy || on === undefined} onClick={() => void change()}>
            {on ? words.pushOff : words.pushOn}
          </button>
        )}
      </div>
    </section>
  );
}
