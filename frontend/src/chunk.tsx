import { type ComponentType, useEffect, useState } from "react";

import { Page } from "./parts/Page";
import { Blank, Failure } from "./parts/states";
import { text } from "./text";

/** The address of a page that was loaded anew because its script was not there. */
const TRIED = "shopwire.loaded-anew";

/** Whether the shop answers at all: without it, a document that is loaded anew is the browser's own page of errors. */
async function answers(): Promise<boolean> {
  try {
    await fetch(location.href, { method: "HEAD", cache: "no-store" });
    return true;
  } catch {
    return false;
  }
}

/**
 * Return a page whose script comes when it is first shown, or earlier by {@link soon}.
 *
 * A script that does not come may have gone with an earlier release: then the document is loaded anew, once, and names
 * those of this one. Otherwise the page says that it did not work, and can be tried again.
 */
export function chunk<P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> & { soon: () => void } {
  let Known: ComponentType<P> | undefined;
  const know = async () => (Known = await load());

  function Chunk(props: P) {
    const [, show] = useState(false);
    const [error, setError] = useState<Error>();
    const get = () => {
      setError(undefined);
      know().then(
        () => {
          sessionStorage.removeItem(TRIED);
          show(true);
        },
        async (reason: Error) => {
          if (sessionStorage.getItem(TRIED) !== location.href && (await answers())) {
            sessionStorage.setItem(TRIED, location.href);
            location.reload();
          } else setError(reason);
        },
      );
    };
    useEffect(() => {
      if (!Known) get();
    }, []);
    if (Known) return <Known {...props} />;
    if (!error) return <Blank />;
    return (
      <Page title={text.shop}>
        <Failure error={new Error(text.errors.chunk)} retry={() => void answers().then((there) => there && location.reload())} />
      </Page>
    );
  }
  Chunk.soon = () => void know().catch(() => undefined);
  return Chunk;
}
