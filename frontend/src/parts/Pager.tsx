import { text } from "../text";

interface Props {
  count: number;
  size: number;
  page: number;
  go: (page: number) => void;
}

/** The pagination of a list; empty if there is only one page. */
export function Pager({ count, size, page, go }: Props) {
  const turn = (to: number) => {
    go(to);
    window.scrollTo(0, 0);
  };
  const last = Math.max(1, Math.ceil(count / size));
  if (last === 1) return null;
  return (
    <nav className="pager" aria-label={text.pages.label}>
      <button type="button" className="button quiet" disabled={page <= 1} onClick={() => turn(page - 1)}>
        {text.pages.previous}
      </button>
      <span>{text.pages.of(page, last)}</span>
      <button type="button" className="button quiet" disabled={page >= last} onClick={() => turn(page + 1)}>
        {text.pages.next}
      </button>
    </nav>
  );
}
