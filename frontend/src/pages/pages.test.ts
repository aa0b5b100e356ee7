import { expect, it } from "vitest";

import type { Message } from "../api/client";
import { talksOf } from "./Messages";
import { pageOf } from "./NotificationsTab";
import { nextPage } from "./SignIn";

it.each([
  ["/orders/7", "/orders/7"],
  ["/?search=pen", "/?search=pen"],
  [null, "/"],
  ["https://evil.example/", "/"],
  ["//evil.example/", "/"],
  ["/\\evil.example/", "/"],
  ["javascript:alert(1)", "/"],
])("goes to a page of ours after signing in: %s", (next, page) => {
  expect(nextPage(next)).toBe(page);
});

it.each([
  ["order_placed", { order: 7 }, "/orders/7"],
  ["stock_low", { product: 3 }, "/products/3"],
  ["message", { message: 5 }, "/messages"],
  ["announcement", {}, null],
  ["announcement", null, null],
] as const)("leads from a notification to what it is about: %s", (kind, data, page) => {
  expect(pageOf({ kind, data })).toBe(page);
});

it("puts the messages of both boxes together by person, the latest first", () => {
  const message = (id: number, sender: string, receiver: string, read_at: string | null = null): Message => ({
    id,
    sender,
    receiver,
    content: String(id),
    timestamp: "2026-11-21T07:00:00Z",
    read_at,
  });
  const inbox = [message(4, "bob", "ada"), message(1, "eve", "ada", "2026-11-21T07:01:00Z")];
  const sent = [message(2, "ada", "bob"), message(5, "ada", "eve")];

  const talks = talksOf(inbox, sent);

  expect(talks.map(({ person }) => person)).toEqual(["eve", "bob"]);
  expect(talks.map(({ unread }) => unread)).toEqual([0, 1]);
  expect(talks[1]?.messages.map(({ id }) => id)).toEqual([2, 4]);
});
