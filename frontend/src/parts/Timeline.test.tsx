import { render, screen } from "@testing-library/react";
import { expect, it } from "vitest";

import type { OrderTask } from "../api/client";
import { isSettled, Timeline } from "./Timeline";

function task(changes: Partial<OrderTask> = {}): OrderTask {
  return {
    id: "01a1fcec-0000-7000-8000-000000000001",
    task: "store.tasks.update_inventory",
    label: "Update the stock",
    queue: "inventory",
    status: "succeeded",
    attempts: 1,
    enqueued_at: "2026-11-21T07:00:00.000Z",
    published_at: "2026-11-21T07:00:00.050Z",
    completed_at: "2026-11-21T07:00:00.200Z",
    last_error: "",
    canvas: null,
    ...changes,
  };
}

const waiting = { status: "pending" as const, published_at: null, completed_at: null };

it("says what was done and how long it took", () => {
  render(<Timeline tasks={[task()]} />);

  expect(screen.getByText("Update the stock")).toBeTruthy();
  expect(screen.getByText("Done")).toBeTruthy();
  expect(screen.getByText("after 200 ms")).toBeTruthy();
});

it("tells a task that failed and comes again from one that waits for the first time", () => {
  render(
    <Timeline
      tasks={[
        task({ ...waiting, attempts: 0 }),
        task({ ...waiting, id: "2", attempts: 1, last_error: "It is being tried again." }),
      ]}
    />,
  );

  expect(screen.getByText("Waiting")).toBeTruthy();
  expect(screen.getByText("Retrying")).toBeTruthy();
  expect(screen.getByText("It is being tried again.")).toBeTruthy();
});

it("shows customers neither the name nor the queue of a task", () => {
  render(<Timeline tasks={[task({ task: "loyalty.tasks.add_points", label: "Give you a point", status: "dead" })]} />);

  expect(screen.getByRole("heading", { name: "Give you a point" })).toBeTruthy();
  expect(screen.getByText("Under review")).toBeTruthy();
  expect(screen.queryByText(/loyalty|inventory/)).toBeNull();
});

it("shows the staff the name, the queue and the error", () => {
  render(<Timeline staff tasks={[task({ status: "dead", last_error: "550 no such mailbox" })]} />);

  expect(screen.getByText("store.tasks.update_inventory")).toBeTruthy();
  expect(screen.getByText("queue inventory")).toBeTruthy();
  expect(screen.getByText("Needs attention")).toBeTruthy();
  expect(screen.getByText("550 no such mailbox")).toBeTruthy();
});

it("is settled once nothing changes by itself any more", () => {
  expect(isSettled([task(), task({ status: "dead" }), task({ status: "cancelled" })])).toBe(true);
  expect(isSettled([task(), task(waiting)])).toBe(false);
});

const canvas = "01a1fcec-0000-7000-8000-00000000000c";

it("says what the settlement waits for, and then what holds it up", () => {
  const { rerender } = render(<Timeline tasks={[task({ canvas }), task({ ...waiting, id: "2", canvas, label: "Send the mail" })]} />);
  expect(screen.getByText("It waits for: Send the mail.")).toBeTruthy();

  rerender(<Timeline tasks={[task({ ...waiting, canvas }), task({ id: "2", canvas, label: "Send the mail", status: "dead" })]} />);
  expect(screen.getByText("It is held up by: Send the mail.")).toBeTruthy();

  rerender(<Timeline tasks={[task({ canvas }), task({ id: "2", canvas, label: "Send the mail", status: "cancelled" })]} />);
  expect(screen.getByText(/cancelled: Send the mail/)).toBeTruthy();
});

it("waits for nothing once the settlement is called, nor in an order of before", () => {
  const { rerender } = render(<Timeline tasks={[task({ ...waiting, canvas, task: "store.tasks.record_settlement" })]} />);
  expect(screen.queryByText(/It waits for/)).toBeNull();
  rerender(<Timeline tasks={[task({ ...waiting })]} />);
  expect(screen.queryByText(/It waits for/)).toBeNull();
});
