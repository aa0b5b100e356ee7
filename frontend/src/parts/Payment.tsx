import { useCallback, useEffect, useState } from "react";

import { api, ask, type Order } from "../api/client";
import { useEvery } from "../every";
import { between, duration, money, shortMoment } from "../format";
import { useLoad } from "../load";
import { text } from "../text";
import { Failure, wordsFor } from "./states";

/** Milliseconds between two requests for a pending payment, and between two updates of the remaining time. */
const SOON = 1000;

/** The payment of an unpaid or expired order: the amount, the deadline and the button. */
export function Payment({ order, changed }: { order: Order; changed: () => void }) {
  const path = { order_id: order.id };
  const payment = useLoad(`payment ${order.id} ${order.status}`, (signal) => ask(api.GET("/api/orders/{order_id}/payment/", { params: { path }, signal })));
  const [paying, setPaying] = useState(false);
  const [refusal, setRefusal] = useState<Error>();
  const [now, setNow] = useState(Date.now);
  const { value, reload } = payment;
  const left = value ? between(new Date(now).toISOString(), value.expires_at) : 0;
  const late = left <= 0;
  const open = value?.status === "pending" && order.status === "unpaid";
  const asked = Boolean(value?.asked_at);

  useEvery(
    SOON,
    useCallback(() => {
      setNow(Date.now());
      if (open && (asked || late)) reload();
    }, [open, asked, late, reload]),
  );
  const settled = value !== undefined && value.status !== "pending" && order.status === "unpaid";
  useEffect(() => {
    if (settled) changed();
  }, [settled, changed]);

  async function pay() {
    setPaying(true);
    setRefusal(undefined);
    try {
      payment.set(await ask(api.POST("/api/orders/{order_id}/payment/", { params: { path }, body: {} })));
    } catch (reason) {
      setRefusal(reason as Error);
      changed();
    } finally {
      setPaying(false);
    }
  }
  const words = text.payment;
  return (
    <section className="summary" aria-label={words.title}>
      {payment.error && <Failure error={payment.error} retry={reload} />}
      {value && open && !asked && !late && (
        <>
          {value.declined_at && (
            <p className="note bad" role="alert">
              {words.declined}
            </p>
          )}
          <p>{words.kept(shortMoment(value.expires_at), duration(left))}</p>
          <button type="button" className="button wide" aria-disabled={paying || undefined} onClick={() => !paying && void pay()}>
            {(value.declined_at ? words.again : words.pay)(money(value.amount, value.currency))}
          </button>
        </>
      )}
      {open && asked && <p role="status">{words.asked}</p>}
      {open && !asked && late && <p role="status">{words.late}</p>}
      {value && order.status === "expired" && (
        <p className="note" role="status">
          {value.status === "refunded" || value.status === "refund_due" ? words.returned : asked ? words.failed : words.late}
        </p>
      )}
      {refusal && (
        <p className="note bad" role="alert">
          {wordsFor(refusal)}
        </p>
      )}
    </section>
  );
}
