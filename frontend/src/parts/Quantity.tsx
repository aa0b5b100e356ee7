import { useEffect, useState } from "react";

import { text } from "../text";

/** The maximum quantity of one line of an order. */
const MOST = 10_000;

interface Props {
  label: string;
  value: number;
  /** How many are available. */
  available: number;
  /** Whether it is read-only for the moment; it keeps the focus. */
  busy?: boolean;
  change: (value: number) => void;
}

/** A quantity, from one to the number available. Typed input takes effect when the field loses the focus. */
export function Quantity({ label, value, available, busy = false, change }: Props) {
  const most = Math.max(1, Math.min(MOST, available));
  const [typed, setTyped] = useState(String(value));
  const [cut, setCut] = useState(false);
  useEffect(() => setTyped(String(value)), [value]);

  function settle() {
    if (busy) return;
    const asked = Math.round(Number(typed)) || value;
    const wanted = Math.min(most, Math.max(1, asked));
    setCut(asked > most);
    setTyped(String(wanted));
    if (wanted !== value) change(wanted);
  }
  const step = (to: number) => {
    setCut(to > most);
    if (!busy && to >= 1 && (to <= most || to < value)) change(to);
  };
  return (
    <div className="quantity-field">
      <div className="quantity" role="group" aria-label={label}>
        <button type="button" aria-label={text.product.less} aria-disabled={busy || value <= 1 || undefined} onClick={() => step(value - 1)}>
          −
        </button>
        <input
          inputMode="numeric"
          aria-label={label}
          value={typed}
          readOnly={busy}
          onChange={(event) => setTyped(event.target.value)}
          onBlur={settle}
          onKeyDown={(event) => event.key === "Enter" && settle()}
        />
        <button type="button" aria-label={text.product.more} aria-disabled={busy || value >= most || undefined} onClick={() => step(value + 1)}>
          +
        </button>
      </div>
      <p className="hint quantity-cut" role="status">
        {cut ? text.product.most(most) : ""}
      </p>
    </div>
  );
}
