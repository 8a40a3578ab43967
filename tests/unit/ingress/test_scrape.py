"""One metrics page from many: the service's families only, under names that outlive the serving framework."""

from prometheus_client.parser import text_string_to_metric_families

from deployments.ingress.scrape import merge

NODE_A = """# HELP ray_rheostat_requests_total Choices by how they ended.
# TYPE ray_rheostat_requests_total counter
ray_rheostat_requests_total{outcome="pass",replica="a",SessionName="s",Version="2"} 3.0
# HELP ray_vllm_prompt_tokens_total Tokens.
# TYPE ray_vllm_prompt_tokens_total counter
ray_vllm_prompt_tokens_total{model_name="m"} 7.0
# HELP ray_node_mem_used Memory.
# TYPE ray_node_mem_used gauge
ray_node_mem_used{ip="1"} 5.0
"""
NODE_B = NODE_A.replace('replica="a"', 'replica="b"').replace(" 3.0", " 4.0")


def samples_of(page: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("replica", "")): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_replicas_of_all_nodes_stand_side_by_side() -> None:
    found = samples_of(merge([NODE_A, NODE_B]))
    assert found["rheostat_requests_total", "a"] == 3
    assert found["rheostat_requests_total", "b"] == 4


def test_the_engines_families_have_the_engines_own_names() -> None:
    assert "vllm:prompt_tokens_total{" in merge([NODE_A])


def test_rays_own_machinery_is_left_out() -> None:
    page = merge([NODE_A, ""])
    assert "node_mem" not in page
    assert "SessionName" not in page
