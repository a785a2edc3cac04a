/** What has been done, and what could not be. */
import { JOBS_LISTED } from '../../publish/job-list.ts'
import type { AdminHandler } from './admin-deps.ts'
import { auditQuerySchema, jobsQuerySchema, parseAs } from './admin-schema.ts'

const JOBS_WITHOUT_LIMIT = 100

export const listJobs: AdminHandler = async ({ query, jobs, answer }) => {
  const { limit = JOBS_WITHOUT_LIMIT } = parseAs(jobsQuerySchema, query)
  return answer({ jobs: await jobs.recent(Math.min(limit, JOBS_LISTED)) })
}

export const listAudit: AdminHandler = async ({ query, catalogue, answer }) => {
  const { name, ...page } = parseAs(auditQuerySchema, query)
  const { events, cursor } = await catalogue.audit.page({ ...definedOf(page), ...(name === undefined ? {} : { subject: name }) })
  return answer({ events, cursor: cursor ?? null })
}

export const listProblems: AdminHandler = async ({ catalogue, answer }) => answer({ problems: catalogue.problems() })

function definedOf({ limit, cursor }: { readonly limit?: number | undefined; readonly cursor?: string | undefined }) {
  return { ...(limit === undefined ? {} : { limit }), ...(cursor === undefined ? {} : { cursor }) }
}
