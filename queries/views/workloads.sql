-- Where each service runs, as its resource attributes say, and how many instances sent spans. What targets are discovered from.
CREATE VIEW workloads AS
SELECT window_start, window_end, service_name, service_namespace,
       k8s_namespace_name, k8s_deployment_name, k8s_statefulset_name, faas_name, aws_ecs_service_arn,
       nullif(count(DISTINCT service_instance_id), 0) AS instances,
       -- Two while one version replaces another.
       min(service_version) AS lowest_version, max(service_version) AS highest_version,
       effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count)) AS n_eff,
       confidence_score(effective_samples(sum(adjusted_count), sum(adjusted_count * adjusted_count))) AS confidence,
       count(*) AS samples
FROM HOP(spans, end_time, INTERVAL '5 seconds', INTERVAL '1 minute')
WHERE is_entry
GROUP BY window_start, window_end, service_name, service_namespace,
         k8s_namespace_name, k8s_deployment_name, k8s_statefulset_name, faas_name, aws_ecs_service_arn;
