import { useCallback, useEffect, useRef, useState } from "react";
import { Link } from "wouter";
import { useHistoryState } from "wouter/use-browser-location";

import { api, ask, type Order as OrderOf, type OrderTask, ProblemError } from "../api/client";
import { chunk } from "../chunk";
import { duration, moment, money } from "../format";
import { useLive } from "../live/provider";
import { useLoad } from "../load";
import { Artwork } from "../parts/Artwork";
import { Confirm } from "../parts/Confirm";
import { Page } from "../parts/Page";
import { Payment } from "../parts/Payment";
import { Envelope } from "../parts/ShippingAddress";
import { Failure, Skeleton } from "../parts/states";
import { isRecorded, isSettled, Timeline } from "../parts/Timeline";
import { useToast } from "../parts/toasts";
import { useSession } from "../session";
import { text } from "../text";
import { NotFound } from "./NotFound";

/** For operators only, and therefore not in this page's script. */
const Canvas = chunk(() => import("../operations/Canvas").then((part) => part.Canvas));

export function Order({ id }: { id: number }) {
  const path = { id: String(id) };
  const order = useLoad(`order ${id}`, (signal) => ask(api.GET("/api/orders/{id}/", { params: { path }, signal })));
  const tasks = useTasks(id);
  const { user } = useSession();
  const [asking, setAsking] = useState(false);
  const say = useToast();
  const justPlaced = useHistoryState<{ justPlaced?: boolean } | null>()?.justPlaced;

  const [lookAtOrder, lookAtTasks] = [order.reload, tasks.reload];
  const lookAgain = useCallback(() => {
    lookAtOrder();
    lookAtTasks();
  }, [lookAtOrder, lookAtTasks]);

  const recorded = tasks.value ? isRecorded(tasks.value) : false;
  useEffect(() => {
    if (recorded) lookAtOrder();
  }, [recorded, lookAtOrder]);

  if (order.error instanceof ProblemError && order.error.status === 404) return <NotFound />;
  const { value } = order;
  const canvas = tasks.value?.find((task) => task.canvas)?.canvas;
  async function cancel() {
    order.set(await ask(api.POST("/api/orders/{id}/cancel/", { params: { path }, body: {} })));
    tasks.reload();
    say(text.order.cancelled);
  }
  return (
    <Page
      title={text.order.title(id)}
      lead={
        value && (
          <>
            <span className={`state ${value.status}`}>{text.order.statuses[value.status]}</span>{" "}
            <time dateTime={value.placed_at}>{moment(value.placed_at)}</time>
          </>
        )
      }
      aside={
        (value?.status === "placed" || value?.status === "unpaid") && (
          <button type="button" className="button quiet" onClick={() => setAsking(true)}>
            {text.order.cancel}
          </button>
        )
      }
    >
      {justPlaced && value?.status === "placed" && (
        <p className="note good" role="status">
          {text.order.thanks}
        </p>
      )}
      {value && (value.status === "unpaid" || value.status === "expired") && (
        <Payment order={value} changed={lookAgain} />
      )}
      {value?.duplicate && value.status === "placed" && <p className="note">{text.order.duplicate}</p>}
      {order.error && <Failure error={order.error} retry={order.reload} />}
      <div className="order">
        <section aria-labelledby="timeline">
          <h2 id="timeline">{text.timeline.title}</h2>
          <p className="hint">{text.timeline.explain}</p>
          {tasks.error && <Failure error={tasks.error} retry={tasks.reload} />}
          {tasks.value ? (
            <>
              <p className="timeline-sum" role="status" data-settled={isSettled(tasks.value)}>
                {value?.status === "unpaid" ? text.timeline.unpaid : sumUp(tasks.value)}{" "}
                {value?.settled_in !== undefined && text.timeline.settled(duration(value.settled_in))}
              </p>
              <Timeline tasks={tasks.value} staff={user?.is_staff ?? false} />
              {user?.is_staff && canvas && <Canvas id={canvas} here="" />}
            </>
          ) : (
            !tasks.error && <Skeleton rows={5} />
          )}
        </section>
        <section aria-labelledby="lines">
          <h2 id="lines">{text.order.lines}</h2>
          {value ? <Lines order={value} /> : !order.error && <Skeleton rows={2} />}
          {value?.shipping_address && (
            <>
              <h2>{text.shipping.title}</h2>
              <Envelope address={value.shipping_address} />
            </>
          )}
          {value?.shipped_at && <p className="hint">{text.shipping.shipped(moment(value.shipped_at))}</p>}
          {value?.delivered_at && <p className="hint">{text.shipping.delivered(moment(value.delivered_at))}</p>}
        </section>
      </div>
      <p className="back">
        <Link href="/orders">← {text.order.all}</Link>
      </p>
      {asking && (
        <Confirm title={text.order.cancelTitle} action={text.order.cancel} bad confirm={cancel} close={() => setAsking(false)}>
          <p>{text.order.cancelBody}</p>
        </Confirm>
      )}
    </Page>
  );
}

function sumUp(tasks: OrderTask[]): string {
  const done = tasks.filter((task) => task.status === "succeeded").length;
  const dead = tasks.filter((task) => task.status === "dead").length;
  if (dead) return text.timeline.stuck(dead);
  return done === tasks.length ? text.timeline.done(done) : text.timeline.going(done, tasks.length);
}

function Lines({ order }: { order: OrderOf }) {
  return (
    <div className="receipt">
      <ul>
        {order.items.map((item) => (
          <li key={item.product}>
            <Artwork sku={item.sku} />
            <span>
              <Link href={`/products/${item.product}`}>{item.title}</Link>
              <span className="hint">
                {item.quantity} × {money(item.unit_price, order.currency)}
              </span>
            </span>
          </li>
        ))}
      </ul>
      <p className="summary-total">
        <span>{text.cart.total}</span>
        <strong>{money(order.total, order.currency)}</strong>
      </p>
    </div>
  );
}

/** Milliseconds until an order's tasks are requested again, by the number of requests without news. */
const PAUSES = [250, 400, 700, 1200, 2000, 4000, 10_000];

/** The tasks of an order: requested again at every event about them and, while some may change, at growing intervals. */
function useTasks(id: number) {
  const tasks = useLoad(`tasks ${id}`, (signal) =>
    ask(api.GET("/api/orders/{id}/tasks/", { params: { path: { id: String(id) } }, signal })).then((answer) => answer.results),
  );
  const { listen } = useLive();
  const { value, loading, reload } = tasks;
  const seen = useRef({ what: "", times: 0 });
  useEffect(() => listen((news) => "order" in news && news.order === id && reload(), reload), [listen, reload, id]);
  useEffect(() => {
    // A dead letter may be replayed or discarded; the customer gets no event for the latter.
    if (loading || !value || value.every(({ status }) => status === "succeeded" || status === "cancelled")) return undefined;
    const what = JSON.stringify(value);
    seen.current = what === seen.current.what ? { what, times: seen.current.times + 1 } : { what, times: 0 };
    const timer = setTimeout(reload, PAUSES[Math.min(seen.current.times, PAUSES.length - 1)]);
    return () => clearTimeout(timer);
  }, [loading, value, reload]);
  return tasks;
}
