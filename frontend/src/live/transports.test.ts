import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { type News, transports } from "./transports";

/** Newest first, as the shop lists them. */
let told: { id: number }[] = [];
let asked: string[] = [];

function answer({ url }: { url: string }): Response {
  const query = new URL(url).searchParams;
  asked.push(query.get("page") ?? "1");
  const page = Number(query.get("page") ?? 1);
  const size = Number(query.get("page_size"));
  const results = told.slice((page - 1) * size, page * size);
  const next = told.length > page * size ? "more" : null;
  return Response.json({ count: told.length, next, previous: null, results });
}

const upTo = (newest: number) => Array.from({ length: newest }, (_, index) => ({ id: newest - index }));

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("fetch", async (request: Request) => answer(request));
  asked = [];
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it("polls for what came meanwhile, in order, however much that is", async () => {
  const heard: number[] = [];
  const opened = vi.fn();
  told = upTo(5);
  const stop = transports.polling(3, { opened, heard: ({ id }: News) => heard.push(id as number), closed: vi.fn() });
  await vi.advanceTimersByTimeAsync(0);
  expect(heard).toEqual([4, 5]);

  told = upTo(305);
  await vi.advanceTimersByTimeAsync(10_000);
  stop();

  expect(heard).toEqual(Array.from({ length: 302 }, (_, index) => index + 4));
  expect(asked).toEqual(["1", "1", "2", "3", "4"]);
  expect(opened).toHaveBeenCalledTimes(2);
});

it("begins polling now where nothing was heard before", async () => {
  const heard: number[] = [];
  told = upTo(250);
  const stop = transports.polling(null, { opened: vi.fn(), heard: ({ id }: News) => heard.push(id as number), closed: vi.fn() });
  await vi.advanceTimersByTimeAsync(0);
  told = upTo(252);
  await vi.advanceTimersByTimeAsync(10_000);
  stop();

  expect(heard).toEqual([251, 252]);
});
