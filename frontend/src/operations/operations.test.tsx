import { render, screen } from "@testing-library/react";
import { expect, it, vi } from "vitest";

import type { Queue } from "../api/client";
import { Decisions } from "./Decisions";
import { Figures } from "./Figures";

const queue: Queue = {
  queue: "email",
  pending: 9,
  published: 0,
  running: 0,
  dead: 0,
  retrying: 0,
  oldest_pending_seconds: null,
  completed_per_minute: 0,
  paused: false,
} as Queue;

it("counts the tasks of all queues that are tried again", () => {
  render(<Figures queues={[{ ...queue, retrying: 14 }, { ...queue, queue: "default", retrying: 2 }]} />);

  const figure = screen.getByText("Retrying").parentElement!;
  expect(figure.querySelector("dd")!.textContent).toBe("16");
  expect(figure.className).toBe("warn");
});

it("shows how far a decision about very many dead letters is, until it is done", async () => {
  const decision = { what: "replay", wanted: 66_000, done: 12_000, percent: 18, ended_at: null };
  const results = [
    { ...decision, id: 2 },
    { ...decision, id: 1, what: "discard", done: 66_000, percent: 100, ended_at: "2026-11-22T12:00:00Z" },
  ];
  const answer = () => new Response(JSON.stringify({ count: 2, next: null, previous: null, results }), { headers: { "Content-Type": "application/json" } });
  vi.spyOn(globalThis, "fetch").mockImplementation(async () => answer());

  render(<Decisions />);

  const bar = await screen.findByLabelText<HTMLProgressElement>("Replayed: 12,000 of 66,000 dead letters.");
  expect(bar.value).toBe(18);
  expect(screen.getAllByRole("listitem")).toHaveLength(1);
});
