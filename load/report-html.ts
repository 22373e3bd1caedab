import type { Report } from './report-text.ts';
export const htmlOf = (report: Report): string => report.title;
