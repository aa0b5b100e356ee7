import { afterEach, beforeEach, expect, it, vi } from "vitest";

import { NoAnswerError, ProblemError } from "./api/client";
import { openAttempt, PATIENCE, placeOrder } from "./checkout";

const CART = "0d5f4f6e-6f1a-4f0e-9d56-000000000001";
const ADA = 1;
const BOB = 2;
const ORDER = { id: 7, status: "placed" };
const keys: (string | null)[] = [];
/** The shop's responses in order; null: no response. */
let answers: (Response | null)[] = [];

const json = (status: number, body: object) =>
  new Response(JSON.stringify(body), { status, headers: { "Content-Type": status < 400 ? "application/json" : "application/problem+json" } });
const refusal = (status: number, type = "about:blank") => json(status, { type, title: "No", status, detail: "No." });

/** Run all timers. */
async function settle<T>(promise: Promise<T>): Promise<T | Error> {
  const settled = promise.catch((error: Error) => error);
  await vi.advanceTimersByTimeAsync(PATIENCE.reduce((sum, wait) => sum + wait, 0));
  return settled;
}

beforeEach(() => {
  vi.useFakeTimers();
  sessionStorage.clear();
  keys.length = 0;
  vi.spyOn(globalThis, "fetch").mockImplementation(async (request) => {
    keys.push((request as Request).headers.get("Idempotency-Key"));
    const answer = answers.shift();
    if (!answer) throw new TypeError("Failed to fetch");
    return answer;
  });
});
afterEach(() => vi.useRealTimers());

it("sends one request for two presses", async () => {
  answers = [json(201, ORDER)];
  const orders = await settle(Promise.all([placeOrder(CART, ADA), placeOrder(CART, ADA)]));

  expect(orders).toEqual([ORDER, ORDER]);
  expect(keys).toHaveLength(1);
});

it("asks again under the same key where no answer was heard", async () => {
  answers = [null, refusal(503), json(201, ORDER)];

  expect(await settle(placeOrder(CART, ADA))).toEqual(ORDER);
  expect(keys).toHaveLength(3);
  expect(new Set(keys).size).toBe(1);
  expect(openAttempt(CART, ADA)).toBeNull();
});

it("keeps the attempt open, and its key, until there is an answer", async () => {
  answers = [null, null, null];
  expect(await settle(placeOrder(CART, ADA))).toBeInstanceOf(NoAnswerError);
  expect(openAttempt(CART, ADA)).toMatchObject({ key: keys[0] });

  answers = [json(201, ORDER)];
  expect(await settle(placeOrder(CART, ADA))).toEqual(ORDER);
  expect(new Set(keys).size).toBe(1);
});

it("waits for a request under the same key that is still running", async () => {
  answers = [refusal(409, "urn:shopwire:problem:idempotency-key-in-use"), json(201, ORDER)];

  expect(await settle(placeOrder(CART, ADA))).toEqual(ORDER);
});

it("begins another attempt after a refusal", async () => {
  answers = [refusal(409, "urn:shopwire:problem:out-of-stock")];
  expect(await settle(placeOrder(CART, ADA))).toBeInstanceOf(ProblemError);
  expect(openAttempt(CART, ADA)).toBeNull();

  answers = [json(201, ORDER)];
  await settle(placeOrder(CART, ADA));
  expect(new Set(keys).size).toBe(2);
});

it("does not take another cart's attempt for this one's", async () => {
  answers = [null, null, null];
  await settle(placeOrder(CART, ADA));

  expect(openAttempt("0d5f4f6e-6f1a-4f0e-9d56-000000000002", ADA)).toBeNull();
});

it("leaves nothing open where the shop does not know who asks", async () => {
  answers = [refusal(401)];
  expect(await settle(placeOrder(CART, ADA))).toBeInstanceOf(ProblemError);

  expect(openAttempt(CART, ADA)).toBeNull();
});

it("keeps open what may have been ordered before the session ended", async () => {
  answers = [null, refusal(401)];
  await settle(placeOrder(CART, ADA));

  expect(openAttempt(CART, ADA)).toMatchObject({ key: keys[0] });
});

it("does not go on with what another user began", async () => {
  answers = [null, null, null];
  await settle(placeOrder(CART, ADA));

  expect(openAttempt(CART, BOB)).toBeNull();
});

it("asks again with the address that was asked for first, whatever the form says by then", async () => {
  const address = { name: "Ada King", line1: "12 St James's Square", city: "London", country: "GB" } as const;
  const bodies: unknown[] = [];
  vi.spyOn(globalThis, "fetch").mockImplementation(async (request) => {
    bodies.push(await (request as Request).json());
    if (bodies.length === 1) throw new TypeError("Failed to fetch");
    return json(201, ORDER);
  });
  await settle(placeOrder(CART, ADA, address));

  expect(bodies).toEqual([
    { cart_id: CART, shipping_address: address },
    { cart_id: CART, shipping_address: address },
  ]);
});
