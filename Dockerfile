# The project as an image: docker build -t fincon .
# docker run --read-only --tmpfs /tmp -v fincon:/data -e STRIPE_API_KEY fincon
FROM python:3.13-slim AS build
RUN pip install --no-cache-dir "hatchling>=1.27"
WORKDIR /src
COPY . .
RUN python -m hatchling build --target wheel --directory /wheels

FROM python:3.13-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir /wheels/*.whl \
 && useradd --system --uid 10001 fincon \
 && install -d -m 0700 -o fincon /data
WORKDIR /data
USER fincon
ENV FINCON_DATA=/data HOME=/tmp PREFECT_HOME=/tmp/prefect
VOLUME /data
HEALTHCHECK --interval=5m --timeout=60s --start-period=30m CMD ["fincon", "status", "--max-age", "2h"]
ENTRYPOINT ["fincon"]
CMD ["serve"]
