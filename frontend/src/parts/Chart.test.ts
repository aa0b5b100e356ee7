import { expect, it } from "vitest";

import { highest, stretchesOf } from "./Chart";

const at = (minutes: number, value = 1) => ({ at: minutes * 60_000, value });

it("breaks the line where figures are missing", () => {
  const [first, second, third, late, later] = [at(0), at(1), at(4), at(9), at(10)];

  expect(stretchesOf([first, second, third, late, later])).toEqual([
    [first, second, third],
    [late, later],
  ]);
  expect(stretchesOf([])).toEqual([]);
});

it("says how high the picture is", () => {
  expect(highest([at(0, 3), at(1, 7), at(2, 5)])).toBe(7);
  expect(highest([])).toBe(0);
});
