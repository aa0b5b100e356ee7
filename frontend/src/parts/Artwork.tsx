import { type ReactNode } from "react";

/** A number from a text, the same each time (FNV-1a). */
function hash(of: string): number {
  let value = 0x811c9dc5;
  for (const character of of) value = Math.imul(value ^ character.charCodeAt(0), 0x01000193);
  return value >>> 0;
}

const CELL = 40;
const GRID = 3;
const PALETTES = 5;

/** Shapes within one cell, whose corner is at the origin. */
const SHAPES: ((colour: string) => ReactNode)[] = [
  (colour) => <circle cx="20" cy="20" r="20" className={colour} />,
  (colour) => <path d="M0 0h40a40 40 0 0 1-40 40z" className={colour} />,
  (colour) => <path d="M40 40H0A40 40 0 0 1 40 0z" className={colour} />,
  (colour) => <path d="M0 20a20 20 0 0 1 40 0v20H0z" className={colour} />,
  (colour) => <path d="M0 0h40v20H0z" className={colour} />,
  (colour) => <path d="M0 0h40v20a20 20 0 0 1-40 0z" className={colour} />,
  (colour) => <path d="M0 0l40 40H0z" className={colour} />,
  (colour) => <circle cx="20" cy="20" r="9" className={colour} />,
];

/** A generated picture for a product; always the same for the same SKU. */
export function Artwork({ sku }: { sku: string }) {
  let seed = hash(sku);
  const next = (below: number) => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const palette = next(PALETTES);
  const cells: ReactNode[] = [];
  for (let row = 0; row < GRID; row += 1) {
    for (let column = 0; column < GRID; column += 1) {
      const shape = SHAPES[next(SHAPES.length)];
      const colour = `ink-${next(4)}`;
      cells.push(
        <g key={`${row} ${column}`} transform={`translate(${column * CELL} ${row * CELL})`}>
          {next(6) > 0 && shape?.(colour)}
        </g>,
      );
    }
  }
  return (
    <svg className={`artwork palette-${palette}`} viewBox="-18 -18 156 156" aria-hidden="true">
      <rect x="-18" y="-18" width="156" height="156" className="ground" />
      {cells}
    </svg>
  );
}
