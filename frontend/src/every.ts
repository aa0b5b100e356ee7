import { useEffect } from "react";

/** Call each of `looks` again and again, while the page is visible. */
export function useEvery(milliseconds: number, ...looks: (() => void)[]): void {
  useEffect(() => {
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") for (const look of looks) look();
    }, milliseconds);
    return () => clearInterval(timer);
  }, [milliseconds, ...looks]);
}
