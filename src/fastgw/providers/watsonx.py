"""IBM watsonx.ai: OpenAI's dialect but for the model's name and the project, and a path of its own for streams.

Source: https://cloud.ibm.com/apidocs/watsonx-ai (Text Chat, Text Chat Stream). Streams tell their usage unasked.
"""

from fastgw.providers.base import Provider

PROVIDER = Provider(
    kind="watsonx",
    base_url="https://{region}.ml.cloud.ibm.com",
    speaks={"openai_chat": "/ml/v1/text/chat?version={api_version}"},
    stream_speaks={"openai_chat": "/ml/v1/text/chat_stream?version={api_version}"},
    api_version="2024-10-08",
    asks_usage=False,
    auth="ibm",
    rename_fields={"model": "model_id"},
    drop_fields=("stream", "stream_options"),
    set_fields={"project_id": '"{project}"'},
    title="IBM watsonx.ai",
    docs="https://cloud.ibm.com/apidocs/watsonx-ai#text-chat",
    note="Needs `region` (such as `us-south`) and `project`; `api_key` is an IBM Cloud API key, exchanged for tokens.",
)
