import { useEffect, useState } from "react";

import { text } from "../text";

const MOST = 10_000;

interface Props {
  label: string;
  value: number;
  disabled?: boolean;
  change: (value: number) => void;
}

/** A number of things, from one to ten thousand. What is typed counts once the field is left. */
export function Quantity({ label, value, disabled = false, change }: Props) {
  const [typed, setTyped] = useState(String(value));
  useEffect(() => setTyped(String(value)), [value]);

  function settle() {
    const wanted = Math.min(MOST, Math.max(1, Math.round(Number(typed)) || value));
    setTyped(String(wanted));
    if (wanted !== value) change(wanted);
  }
  return (
    <div className="quantity" role="group" aria-label={label}>
      <button type="button" aria-label={text.product.less} disabled={disabled || value <= 1} onClick={() => change(value - 1)}>
        −
      </button>
      <input
        inputMode="numeric"
        aria-label={label}
        value={typed}
        disabled={disabled}
        onChange={(event) => setTyped(event.target.value)}
        onBlur={settle}
        onKeyDown={(event) => event.key === "Enter" && settle()}
      />
      <button type="button" aria-label={text.product.more} disabled={disabled || value >= MOST} onClick={() => change(value + 1)}>
        +
      </button>
    </div>
  );
}
