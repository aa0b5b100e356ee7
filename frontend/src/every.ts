import { useEffect } from "react";

/** Call every one of `looks` again and again, while somebody can see the page. */
export function useEvery(milliseconds: number, ...looks: (() => void)[]): void {
  useEffect(() => {
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") for (const look of looks) look();
    }, milliseconds);
    return () => clearInterval(timer);
  }, [milliseconds, ...looks]);
}
