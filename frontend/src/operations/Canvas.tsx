import { useRef, useState } from "react";
import { Link } from "wouter";

import { api, ask, type Canvas as CanvasOf, type CanvasCall, type CanvasNode } from "../api/client";
import { useEvery } from "../every";
import { useLoad } from "../load";
import { Confirm } from "../parts/Confirm";
import { Field } from "../parts/Field";
import { Failure, Skeleton } from "../parts/states";
import { useToast } from "../parts/toasts";
import { words } from "./text";

/** Milliseconds between two requests. */
const PACE = 3000;
/** Size of a node and distance between nodes, in units of the drawing. */
const [WIDTH, HEIGHT, ACROSS, BELOW, EDGE] = [208, 62, 48, 18, 4];
/** Maximum characters in a node. */
const LETTERS = 25;

const left = (node: CanvasNode) => EDGE + node.column * (WIDTH + ACROSS);
const top = (node: CanvasNode) => EDGE + node.row * (HEIGHT + BELOW);
const short = (text: string, most: number) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** The canvas of a task: which tasks are done, running, waiting (and for what), or holding it up. */
export function Canvas({ id, here }: { id: string; here: string }) {
  const canvas = useLoad(`canvas ${id}`, (signal) => ask(api.GET("/api/ops/canvases/{canvas_id}/", { params: { path: { canvas_id: id } }, signal })));
  const [cancels, setCancels] = useState(false);
  const list = useRef<HTMLDetailsElement>(null);
  useEvery(PACE, canvas.reload);
  const found = canvas.value;
  return (
    <section aria-labelledby="canvas" className="canvas">
      <h2 id="canvas">{words.canvas.title}</h2>
      {canvas.error && <Failure error={canvas.error} retry={canvas.reload} />}
      {!found && !canvas.error && <Skeleton rows={2} />}
      {found && (
        <>
          <p className="canvas-sum" role="status">
            {found.text}
          </p>
          {!found.is_whole && <p className="hint">{words.canvas.large}</p>}
          {/* It scrolls, and so those who have no mouse must be able to reach it. */}
          <div className="canvas-drawing" tabIndex={0} role="group" aria-label={words.canvas.drawing}>
            <Drawing canvas={found} here={here} open={(key) => reveal(list.current, key)} />
          </div>
          <details ref={list} className="canvas-list">
            <summary>{words.canvas.list}</summary>
            <ol>
              {found.nodes.map((node) => (
                <li key={node.key} id={`canvas-${node.key}`} tabIndex={-1}>
                  {node.text}
                  {node.count > 1 && <Calls calls={node.calls} more={node.count - node.calls.length} />}
                  {node.count === 1 && node.calls[0]?.has_row && <Calls calls={node.calls} more={0} />}
                  {node.awaits.length > 0 && (
                    <>
                      <p className="hint">{words.canvas.awaits}</p>
                      <Calls calls={node.awaits} more={node.awaited - node.awaits.length} />
                    </>
                  )}
                </li>
              ))}
            </ol>
          </details>
          {!found.is_ended && (
            <button type="button" className="button small" onClick={() => setCancels(true)}>
              {words.canvas.cancel}
            </button>
          )}
          {cancels && <Cancel id={id} close={() => setCancels(false)} done={canvas.reload} />}
        </>
      )}
    </section>
  );
}

/** A node in the list, with the calls that it stands for. */
function reveal(list: HTMLDetailsElement | null, key: number) {
  if (!list) return;
  list.open = true;
  const item = list.querySelector<HTMLElement>(`#canvas-${key}`);
  item?.scrollIntoView({ block: "nearest" });
  item?.focus();
}

function Drawing({ canvas, here, open }: { canvas: CanvasOf; here: string; open: (key: number) => void }) {
  const nodes = new Map(canvas.nodes.map((node) => [node.key, node]));
  const width = Math.max(...canvas.nodes.map(left)) + WIDTH + EDGE;
  const height = Math.max(...canvas.nodes.map(top)) + HEIGHT + EDGE;
  return (
    <svg viewBox={`0 0 ${width} ${height}`} width={width} height={height} role="group" aria-label={words.canvas.title}>
      <g aria-hidden="true">
        {canvas.edges.map(({ before, after }) => (
          <path key={`${before} ${after}`} className="canvas-edge" d={way(nodes.get(before)!, nodes.get(after)!)} />
        ))}
      </g>
      {canvas.nodes.map((node) => (
        <Box key={node.key} node={node} here={node.calls.some((call) => call.id === here)} open={open} />
      ))}
    </svg>
  );
}

function way(before: CanvasNode, after: CanvasNode): string {
  const [x, y, far, down] = [left(before) + WIDTH, top(before) + HEIGHT / 2, left(after), top(after) + HEIGHT / 2];
  const half = (x + far) / 2;
  return `M${x} ${y} C${half} ${y} ${half} ${down} ${far} ${down}`;
}

/** A single task links to its page; several, or one that is not called yet, to their list. */
function Box({ node, here, open }: { node: CanvasNode; here: boolean; open: (key: number) => void }) {
  const [x, y] = [left(node), top(node)];
  const single = node.count === 1 ? node.calls.find((call) => call.has_row) : undefined;
  const inner = (
    <>
      <rect x={x} y={y} width={WIDTH} height={HEIGHT} rx="9" />
      <text x={x + 12} y={y + 23} className="canvas-name">
        {short(node.title, node.count > 1 ? LETTERS - 6 : LETTERS)}
      </text>
      {node.count > 1 && (
        <text x={x + WIDTH - 12} y={y + 23} textAnchor="end" className="canvas-count">
          {node.is_row ? words.canvas.steps(node.count) : words.canvas.times(node.count)}
        </text>
      )}
      <text x={x + 12} y={y + 42} className="canvas-state">
        {short(says(node), LETTERS + 3)}
      </text>
      <Bar node={node} x={x + 12} y={y + HEIGHT - 11} width={WIDTH - 24} />
    </>
  );
  const looks = { className: `canvas-node ${node.state}${here ? " here" : ""}`, "aria-current": here || undefined };
  if (single)
    return (
      <Link href={`/operations/tasks/${single.id}`} {...looks}>
        {inner}
      </Link>
    );
  return (
    <a
      href={`#canvas-${node.key}`}
      {...looks}
      onClick={(event) => {
        event.preventDefault();
        open(node.key);
      }}
    >
      {inner}
    </a>
  );
}

function says(node: CanvasNode): string {
  const { states } = words.canvas;
  const order = Object.keys(states).filter((state) => node.counts[state]);
  if (node.count === 1) return node.awaited ? words.canvas.waitsFor(node.awaited) : states[node.state];
  if (node.awaited && order.length === 1) return words.canvas.waitsFor(node.awaited);
  return order.map((state) => `${node.counts[state]} ${states[state as keyof typeof states].toLowerCase()}`).join(", ");
}

/** The share of a node's calls in each state, as lengths. */
function Bar({ node, x, y, width }: { node: CanvasNode; x: number; y: number; width: number }) {
  let from = x;
  return (
    <g aria-hidden="true">
      {Object.keys(words.canvas.states)
        .reverse()
        .filter((state) => node.counts[state])
        .map((state) => {
          const length = Math.max(2, ((node.counts[state] ?? 0) / node.count) * width);
          const part = <rect key={state} className={`canvas-part ${state}`} x={from} y={y} width={Math.min(length, x + width - from)} height="4" />;
          from += length;
          return part;
        })}
    </g>
  );
}

function Calls({ calls, more }: { calls: CanvasCall[]; more: number }) {
  return (
    <ul className="relatives">
      {calls.map((call) => (
        <li key={call.id}>
          {call.has_row ? <Link href={`/operations/tasks/${call.id}`}>{call.task}</Link> : call.task}{" "}
          <span className={`state ${call.state}`}>{words.canvas.states[call.state]}</span>
          {call.error && call.state === "dead" && <span className="hint"> {short(call.error, 120)}</span>}
        </li>
      ))}
      {more > 0 && <li className="hint">{words.canvas.more(more)}</li>}
    </ul>
  );
}

/** Cancel the whole canvas, with a reason. */
function Cancel({ id, close, done }: { id: string; close: () => void; done: () => void }) {
  const [reason, setReason] = useState("");
  const [terminate, setTerminate] = useState(false);
  const say = useToast();
  return (
    <Confirm
      title={words.canvas.cancelTitle}
      action={words.canvas.cancel}
      bad
      ready={reason.trim() !== ""}
      confirm={async () => {
        const body = { reason: reason.trim(), terminate };
        const answer = await ask(api.POST("/api/ops/canvases/{canvas_id}/cancel/", { params: { path: { canvas_id: id } }, body }));
        say(words.decidedNow.cancel(answer.count));
        done();
      }}
      close={close}
    >
      <p>{words.canvas.cancelBody}</p>
      <Field label={words.reason} value={reason} maxLength={300} onChange={(event) => setReason(event.target.value)} />
      <label className="check">
        <input type="checkbox" checked={terminate} onChange={(event) => setTerminate(event.currentTarget.checked)} /> {words.canvas.terminate}
      </label>
    </Confirm>
  );
}
