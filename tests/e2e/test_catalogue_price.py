"""A vendor's kind is enough: with a mock at its address, its price comes from the catalogue into the record."""

from decimal import Decimal

import openai

from fastgw.call import Usage
from fastgw.plan import catalogue
from fastgw.plan.prices import cost_nano, dollars
from tests.support.gateway import Mock, node, unique

KEY = "fgw-catalogue-0123456789abcdef"
MODEL = "openai/gpt-oss-120b"


def test_the_record_and_the_answer_have_the_catalogues_price(tmp_path):
    mock = Mock(tmp_path)
    config = f"""
providers: {{fast: {{kind: groq, base_url: "{mock.url}/v1", api_key: sk-x}}}}
models: {{m: {{targets: [{{provider: fast, model: {MODEL}}}]}}}}
keys: [{{name: k, secret: {KEY}}}]
"""
    price, label = catalogue.shipped().price_of("groq", MODEL), unique()
    try:
        with node(tmp_path / "node", config) as gateway:
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key=KEY, max_retries=0)
            with client:
                answer = client.chat.completions.with_raw_response.create(
                    model="m", messages=[{"role": "user", "content": "hi"}], extra_headers={"x-request-id": label}
                )
            row = gateway.record(label)
    finally:
        mock.stop()
    usage = answer.parse().usage
    cost = cost_nano(price, Usage(input=usage.prompt_tokens, output=usage.completion_tokens))
    assert cost > 0
    assert (row["cost_nano"], row["price_version"]) == (cost, f"catalogue-{catalogue.load().version}")
    assert (row["provider"], row["target"]) == ("fast", f"fast/{MODEL}")
    assert Decimal(answer.headers["x-fastgw-cost"]) == Decimal(dollars(cost))
