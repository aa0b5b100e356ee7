import { createContext, type ReactNode, useCallback, useContext, useState } from "react";

import { text } from "../text";

interface Toast {
  id: number;
  words: string;
  bad: boolean;
}

const Context = createContext<(words: string, bad?: boolean) => void>(() => undefined);
/** Milliseconds for which good news is shown; errors stay until they are dismissed. */
const STAYS = 5000;
let last = 0;

/** Messages at the edge of the screen about completed actions, announced by screen readers. */
export function Toasts({ children }: { children: ReactNode }) {
  const [toasts, setToasts] = useState<Toast[]>([]);
  const drop = useCallback((id: number) => setToasts((before) => before.filter((each) => each.id !== id)), []);
  const say = useCallback(
    (words: string, bad = false) => {
      const id = ++last;
      setToasts((before) => [...before.slice(-2), { id, words, bad }]);
      if (!bad) setTimeout(() => drop(id), STAYS);
    },
    [drop],
  );
  return (
    <Context value={say}>
      {children}
      <div className="toasts" role="status" aria-live="polite">
        {toasts.map(({ id, words, bad }) => (
          <div key={id} className={bad ? "toast bad" : "toast"}>
            <span>{words}</span>
            <button type="button" className="plain" aria-label={text.close} onClick={() => drop(id)}>
              ×
            </button>
          </div>
        ))}
      </div>
    </Context>
  );
}

/** Return a function that shows a message on the current page. */
export const useToast = () => useContext(Context);
